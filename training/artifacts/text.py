"""Small questions about texts."""

from __future__ import annotations


def common_prefix(a: str, b: str) -> str:
    """What both texts begin with."""
    shorter = min(len(a), len(b))
    return a[: next((i for i in range(shorter) if a[i] != b[i]), shorter)]
