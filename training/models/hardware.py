"""The device, its threads and its precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal

import torch

from training.artifacts import machine

Dtype = Literal["auto", "float32", "bfloat16"]

_dtype: ContextVar[Dtype] = ContextVar("dtype", default="auto")
_full_precision: ContextVar[bool] = ContextVar("full_precision", default=False)
_on_cpu: ContextVar[bool] = ContextVar("on_cpu", default=False)


def device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not _on_cpu.get() else "cpu")


@contextmanager
def on_cpu() -> Iterator[None]:
    """The CPU as the device of this block: for models whose weights stay in their files, and for exact tests."""
    token = _on_cpu.set(True)
    try:
        yield
    finally:
        _on_cpu.reset(token)


def set_threads() -> None:
    """One thread per core that this process may use, unless OMP_NUM_THREADS says otherwise.

    Of oneDNN's kernels 16 are kept, which is more than one pass has shapes: kept for a thousand shapes of passed
    batches they held 200 MB, and gave nothing.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or machine.cores()))


def set_dtype(dtype: Dtype) -> None:
    """What forward passes multiply in from now on; `auto` is bfloat16 where the hardware multiplies it natively, and
    float32 elsewhere, where emulated bfloat16 is slower. Weights that are trained stay in float32."""
    _dtype.set(dtype)


def multiplies_in_bf16() -> bool:
    """Whether forward passes multiply in bfloat16."""
    dtype = _dtype.get()
    return not _full_precision.get() and (_multiplies_bf16(device().type) if dtype == "auto" else dtype == "bfloat16")


def autocast() -> AbstractContextManager[Any]:
    """The context of every forward pass: matrices are multiplied in bfloat16, or nothing is changed."""
    return torch.autocast(device().type, torch.bfloat16, enabled=multiplies_in_bf16())


@cache
def _multiplies_bf16(kind: str) -> bool:
    """On a CPU also that ATen uses AVX-512 (ATEN_CPU_CAPABILITY may forbid it), else bfloat16 would be emulated."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return "AVX512" in torch.backends.cpu.get_cpu_capability() and bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 in every forward pass of this block, whatever the hardware prefers: for probes, and for exact tests."""
    token = _full_precision.set(True)
    try:
        yield
    finally:
        _full_precision.reset(token)
