"""What `accelerate launch` was told beyond the number of processes: sharding, DeepSpeed's configuration.

It hands its options on in the environment. Here they become ours, are said not to count, or are refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError

# What would give another result, or another use of memory, than was asked for.
REFUSED = {
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM is not used here: leave it out, and shard with --use_fsdp",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor and context parallelism are not used here: shard with --use_fsdp",
    "FSDP_OFFLOAD_PARAMS": "weights are not offloaded to the CPU here: leave --fsdp_offload_params out",
}
PRECISIONS = ("fp16", "fp8")


def check(environment: Mapping[str, str] = os.environ) -> str | None:
    """A sentence on what is taken of DeepSpeed's configuration; None where there is none.

    Raises:
        UserError: something is asked for that is not done here.
    """
    for name, advice in REFUSED.items():
        if _is_on(environment, name):
            raise UserError(f"{name}: {advice}")
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision in PRECISIONS:
        raise UserError(f"--mixed_precision {precision}: use --dtype bfloat16 or float32 of the command itself")
    if not _is_on(environment, "ACCELERATE_USE_DEEPSPEED"):
        return None
    stage = zero_stage(environment)
    what = "weights, gradients and moments are divided by FSDP2" if stage else "every process holds the whole model"
    return (
        f"DeepSpeed's engine is not used: for its ZeRO stage {stage}, {what}; batches, rates and clipping are the "
        "command's own options"
    )


def shards(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launcher was told to divide models: by FSDP of either version, or by a ZeRO stage of DeepSpeed."""
    if _is_on(environment, "ACCELERATE_USE_DEEPSPEED"):
        return zero_stage(environment) > 0
    return _is_on(environment, "ACCELERATE_USE_FSDP") and environment.get("FSDP_SHARDING_STRATEGY") not in (
        "NO_SHARD", "3",
    )  # fmt: skip


def zero_stage(environment: Mapping[str, str]) -> int:
    """The ZeRO stage of DeepSpeed's configuration, from its file or from accelerate's options.

    Raises:
        UserError: the file cannot be read, or asks for what is not done here.
    """
    name = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    devices = [environment.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{part}_DEVICE") for part in ("OPTIMIZER", "PARAM")]
    stage: Any = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    if name.lower() != "none":
        settings = _read(Path(name))
        zero = settings.get("zero_optimization", {})
        if _enabled(settings.get("fp16")):
            raise UserError(f"{name}: fp16 is not used here: use bf16, or --dtype float32 of the command itself")
        devices += [zero.get(part, {}).get("device") for part in ("offload_optimizer", "offload_param")]
        stage = zero.get("stage", 0)
    if any(device not in (None, "none") for device in devices):
        raise UserError("DeepSpeed's offloading is not done here: leave it out of its configuration")
    if str(stage) not in ("0", "1", "2", "3"):
        raise UserError(f"ZeRO stage {stage} of DeepSpeed's configuration is not a known one: use 0 to 3")
    return int(stage)


def _read(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        parts = [settings.get(name, {}) for name in ("zero_optimization", "fp16")]
        parts += [parts[0].get(name, {}) for name in ("offload_optimizer", "offload_param")]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file} is not a DeepSpeed configuration in JSON ({error}): mend it, or leave it out"
        ) from None
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{file}: a part of DeepSpeed's configuration is not a table: mend it, or leave it out")
    return dict(settings)


def _enabled(part: Any) -> bool:
    return isinstance(part, dict) and part.get("enabled") is True


def _is_on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "false").lower() in ("true", "1", "yes", "on")
