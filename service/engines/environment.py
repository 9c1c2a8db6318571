"""The environment of vLLM's servers: this process's own, without its secrets."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

from service.engines.planning import EnginePlan

# The service's settings, addresses and credentials of databases, and keys of any kind, vLLM's included.
SECRET = re.compile(
    r"^ALIGNLOOP_|^PG[A-Z]+$|DATABASE_URL"
    r"|(?:^|_)(?:PASSWORD|PASSWD|SECRETS?|TOKEN|API_?KEY|ACCESS_KEY|CREDENTIALS?)(?:_|$)",
    re.IGNORECASE,
)


def clean(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables without settings of the service and without credentials: an engine needs none of them, and one that
    sees a key of vLLM's refuses every request. CUDA_VISIBLE_DEVICES and the like stay."""
    return {name: value for name, value in variables.items() if not SECRET.search(name)}


def own(plan: EnginePlan) -> Mapping[str, str]:
    """Variables that a vLLM server gets beside these."""
    variables = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if on_cpu():
        variables |= {
            # Engines share the cores: none may bind to some of them.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(plan.threads or 1),
            # The model runs inside the engine core instead of in a third process: a start takes two thirds of the
            # time and 0.8 GiB less. vLLM wants the third process to bind cores, which is off.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
    return variables


def on_cpu() -> bool:
    """Whether the CPU distribution of vLLM is installed."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
