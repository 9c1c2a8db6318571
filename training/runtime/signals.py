"""Signals that ask a run to stop: Ctrl-C, what schedulers and container engines send, a terminal that is closed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from training.artifacts.errors import Stopped

# Slurm warns with SIGUSR1 on request, and ends a job with SIGTERM, as Kubernetes, torchrun and a dying parent do.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopRequest:
    """Whether a signal asked to stop. The first one waits inside `postponed()`; any other raises `Stopped` at once.

    Args:
        patient: signals after the first wait too: a launcher of several processes sends its own after Ctrl-C, and kills
            them if they take too long.

    Attributes:
        number: the signal that waits, None without one.
    """

    def __init__(self, patient: bool = False) -> None:
        self.number: int | None = None
        self._patient = patient
        self._waits = False
        self._handlers: dict[int, Any] = {}

    def catch(self) -> None:
        """Handle the signals from now on, in the main thread; elsewhere they stay as they are."""
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            try:
                self._handlers[number] = signal.signal(number, self._on_signal)
            except ValueError:  # signals can be caught in the main thread only
                return

    def release(self) -> None:
        """Handle the signals as before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Let the first signal wait until `obey` is called or the block ends."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        self.obey()

    def obey(self) -> None:
        """Raise `Stopped` where a signal waits."""
        if self.number is not None:
            raise Stopped(self.number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._waits or (self.number is not None and not self._patient):
            raise Stopped(number)
        self.number = number
