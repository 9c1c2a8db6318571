"""Stands in for vLLM where a test needs a GPU's calls without a GPU: notes each call as a line of JSON in the file that
STUB_VLLM_CALLS names, and answers with tokens that mean nothing. STUB_VLLM_FAULT makes it fail (`start`), end
(`generate`) or compute for ever (`hang`)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SamplingParams = SimpleNamespace


def _note(call: str, **values: Any) -> None:
    with Path(os.environ["STUB_VLLM_CALLS"]).open("a") as file:
        file.write(json.dumps({"call": call, **values}, default=str) + "\n")


class LLM:
    def __init__(self, **arguments: Any) -> None:
        if os.environ.get("STUB_VLLM_FAULT") == "start":
            raise ValueError("this architecture is not supported")
        _note("start", pid=os.getpid(), gpus=os.environ.get("CUDA_VISIBLE_DEVICES"), **arguments)
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: _note("shutdown")))

    def collective_rpc(self, name: str, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> None:
        folder = (kwargs or {}).get("weights_path")
        _note(name, files=sorted(file.name for file in Path(folder).iterdir()) if folder else None)

    def wake_up(self, tags: list[str]) -> None:
        _note("wake_up", tags=tags)

    def sleep(self, level: int) -> None:
        _note("sleep", level=level)

    def reset_prefix_cache(self) -> None:
        _note("reset_prefix_cache")

    def generate(self, prompts: Sequence[Any], parameters: Sequence[Any], use_tqdm: bool) -> list[Any]:
        _note("generate", seeds=[one.seed for one in parameters])
        if os.environ.get("STUB_VLLM_FAULT") == "generate":
            os._exit(9)
        if os.environ.get("STUB_VLLM_FAULT") == "hang":
            time.sleep(60)
        ids = [[5] * one.max_tokens for one in parameters]
        outputs = [SimpleNamespace(token_ids=row, logprobs=SimpleNamespace(logprobs=[-1.0] * len(row))) for row in ids]
        return [SimpleNamespace(outputs=[output]) for output in outputs]
