"""vLLM's server on a CPU, started in half the time: the process that computes is a copy of the one that answers.

vLLM starts that process anew on a CPU, for the sake of processes that bind their threads to cores of their own; it
imports everything a second time, twenty seconds on a slow core. Engines here have one process that computes, and it
binds to no core (`process.environment`). For the sake of GPUs, which the first process must not touch, vLLM also looks
at a model's class in a third one, the first time; here that is done in place.

A script, run with `python -P`: modules of this folder must not stand in for others of the same name.
"""

from __future__ import annotations

import os
import runpy
from typing import Any

from vllm.model_executor.models import registry
from vllm.platforms.cpu import CpuPlatform

SERVER = "vllm.entrypoints.openai.api_server"


def fork() -> None:
    """Let vLLM fork, as it does by default beside an untouched GPU."""
    check = CpuPlatform.check_and_update_config

    def check_and_fork(cls: type, config: Any) -> None:
        check(config)  # sets the variable to `spawn`
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = classmethod(check_and_fork)
    registry._run_in_subprocess = lambda inspect: inspect()


if __name__ == "__main__":
    fork()
    runpy.run_module(SERVER, run_name="__main__", alter_sys=True)
