"""Scalars of a run: TensorBoard's event files, and the same as lines of JSON in `metrics.jsonl` beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from training.artifacts.files import write_atomically
from training.artifacts.progress import CONSOLE
from training.runtime.trackers import Tracker

NAME = "metrics.jsonl"


class Metrics:
    """Writes the scalars of a run that begins at step `start`; what an earlier process logged from there on is removed.
    Trackers get them too.

    A line holds `step`, `time` (UTC, ISO 8601) and the scalars by name. One that is not finite is left out: JSON has
    no number for it.
    """

    def __init__(self, folder: Path, start: int, trackers: Sequence[Tracker] = ()) -> None:
        self._folder, self._start = folder, start
        self._trackers = list(trackers)
        self._writer: Any = None
        self._lines: IO[str] | None = None

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add the scalars of a step; the line is on its way to the disk when this returns."""
        if self._writer is None or self._lines is None:
            from torch.utils.tensorboard import SummaryWriter

            # purge_step hides what a killed process logged beyond the state that this one starts from.
            self._writer = SummaryWriter(str(self._folder), purge_step=self._start)
            self._lines = self._opened()
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
        line = {"step": step, "time": datetime.now(UTC).isoformat(timespec="milliseconds")} | finite
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        for tracker in list(self._trackers):
            try:
                tracker.write(step, finite)
            except Exception as error:  # of its network, mostly: no reason to lose a run
                self._trackers.remove(tracker)
                CONSOLE.print(
                    f"{type(tracker).__name__} takes no more scalars from step {step} on: {error}", markup=False
                )

    def close(self, completed: bool = True) -> None:
        """Flush and close the files; trackers hear whether the run has ended."""
        for tracker in self._trackers:
            tracker.close(completed)
        if self._writer is not None:
            self._writer.close()
        if self._lines is not None:
            self._lines.close()

    def _opened(self) -> IO[str]:
        file = self._folder / NAME
        earlier = [line for line in _lines_of(file) if _step_of(line) < self._start]
        write_atomically(file, "".join(f"{line}\n" for line in earlier))
        return file.open("a", encoding="utf-8")


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl` in their order, without one that was cut off."""
    return [json.loads(line) for line in _lines_of(file) if math.isfinite(_step_of(line))]


def _lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


def _step_of(line: str) -> float:
    """The step of a line; infinity for one that a kill cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
