"""How the long-running commands end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into a normal exit, from the first import on: a manager that ends a service while it starts must not
    see a failure. uvicorn, once it has shut down, raises the signal that it caught again."""

    def leave(_: int, __: FrameType | None) -> None:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
