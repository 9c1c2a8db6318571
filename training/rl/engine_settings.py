"""How vLLM's engine of PPO's rollouts is started: its arguments, its environment, and where it computes."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

MODULE = "training.rl.engine_process"
BLOCK_TOKENS = 32  # of the key-value cache, on a CPU the smallest that vLLM's attention takes
SEQUENCES = {"cpu": 128, "cuda": 256}  # responses at once, at most
BATCHED_TOKENS = 4096  # prompt tokens that an engine on a CPU takes in per step
# What an engine takes beside weights and cache: its process on a CPU (measured: 1.1 GB), work space on a GPU (planned).
BESIDE_BYTES = {"cpu": 1_200_000_000, "cuda": 2_500_000_000}

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class EnginePlan:
    """What an engine computes with.

    Attributes:
        device: kind of device.
        dtype: of weights and cache.
        context: greatest number of tokens of prompt and response together.
        sequences: responses at once; the cache holds each of them whole, so none is ever put off.
        cache_bytes: of the key-value cache.
        weight_bytes: of the weights, an output head of their own included.
        gpus: that the trainer leaves to the engine, by number; none where both share a device.
        gpu_bytes: memory of the GPU that both share; 0 elsewhere.
    """

    device: Device
    dtype: torch.dtype
    context: int
    sequences: int
    cache_bytes: int
    weight_bytes: int
    gpus: tuple[int, ...] = ()
    gpu_bytes: int = 0

    @property
    def sleeps(self) -> bool:
        """Whether the engine gives its memory back while the trainer computes on the same GPU."""
        return self.device == "cuda" and not self.gpus

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.cache_bytes + BESIDE_BYTES[self.device]


def cache_bytes(context: int, sequences: int, per_token: int) -> int:
    """Bytes of a cache that holds so many sequences of this length in whole blocks. vLLM keeps a block back."""
    return (math.ceil(context / BLOCK_TOKENS) * sequences + 2) * BLOCK_TOKENS * per_token


def arguments(plan: EnginePlan, model: Path) -> dict[str, Any]:
    """Arguments of `vllm.LLM`, as JSON values, for the configuration in the folder `model`."""
    common: dict[str, Any] = {
        "model": str(model),
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "dtype": str(plan.dtype).removeprefix("torch."),
        "load_format": "dummy",
        "max_model_len": plan.context,
        "max_num_seqs": plan.sequences,
        "kv_cache_memory_bytes": plan.cache_bytes,
        # Those of the distribution that is sampled from, temperature included.
        "logprobs_mode": "processed_logprobs",
    }
    if plan.device == "cpu":
        # Prompts are taken in whole: one with a seed of its own that takes two steps ends an engine on a CPU.
        return common | {
            "enforce_eager": True,
            "block_size": BLOCK_TOKENS,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(plan.context, BATCHED_TOKENS),
            # Prompts of an iteration are different ones; looking for what they share takes a tenth of a small model.
            "enable_prefix_caching": False,
        }
    if plan.gpus:
        return common | {"tensor_parallel_size": len(plan.gpus)}
    # vLLM starts only where this share of the GPU is free; the trainer has the rest.
    share = min(0.9, plan.total_bytes / plan.gpu_bytes)
    return common | {"enable_sleep_mode": True, "gpu_memory_utilization": round(share, 3)}


def environment(plan: EnginePlan, threads: int, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that the engine's process gets beside the trainer's own."""
    own = {
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        # One process that computes: none is left behind. Several GPUs take one each, which end with it.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    if plan.device == "cpu":
        # The one function that vLLM would still compile takes longer to compile, 17 s, than it runs in most runs.
        threaded = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
        return own | threaded | {"TORCHDYNAMO_DISABLE": "1"}
    visible = [name for name in variables.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    numbers = plan.gpus or (0,)  # the trainer takes the first
    return own | {"CUDA_VISIBLE_DEVICES": ",".join(visible[n] if visible else str(n) for n in numbers)}


def command(plan: EnginePlan, model: Path) -> list[str]:
    """The engine's module and its argument, as `processes.start` takes them."""
    return [MODULE, json.dumps(arguments(plan, model))]


def command_line(plan: EnginePlan, model: Path, threads: int, variables: Mapping[str, str] = os.environ) -> str:
    """The same with its environment, as a shell takes it."""
    own = environment(plan, threads, variables)
    return shlex.join(["env", *(f"{name}={own[name]}" for name in own), "python", "-m", *command(plan, model)])
