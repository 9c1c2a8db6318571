"""What every run shares: its key, its lock, saved state, progress bar and TensorBoard scalars.

Every random number of a stage comes from a generator seeded by (seed, purpose, step), see `rng_for`, never from a
stateful stream. So models, optimizer, a stage's own numbers and the step are the whole state: a resumed run gives the
same bits as an uninterrupted one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Protocol

import torch

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import make_folder

CONSOLE = progress.CONSOLE
SAVE_SECONDS = 30.0
SAVE_SHARE = 0.05  # of the time at most goes into saving


class Stateful(Protocol):
    """What a run saves: models, optimizers, averages, and a stage's own numbers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Run:
    """One run of a stage, used as `with Run(...) as run:`.

    The same command finds the same state: the key is a hash over the configuration, the parents' ids and the data.

    Args:
        home: folder that everything is written to.
        stage: name of the command.
        config: the stage's configuration, a dataclass.
        inputs: ids of parent checkpoints and hashes of data.

    Raises:
        UserError: the same run is in progress in another process.
    """

    def __init__(self, home: Path, stage: str, config: Any, inputs: Sequence[str]) -> None:
        self.config = resolved(config)
        settings = {name: _from_home(value, home) for name, value in self.config.items() if name != "home"}
        text = json.dumps([stage, settings, list(inputs)], sort_keys=True, default=str)
        self.name = f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self.folder = home / "work" / self.name
        self.start = 0
        self._logs = home / "tensorboard" / self.name
        self._parts: dict[str, Stateful] = {}
        self._bar: progress.Bar
        self._interrupted = False
        self._lock: IO[str] | None = None
        self._writer: Any = None

    def __enter__(self) -> Run:
        make_folder(self.folder)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(
                f"this run is already in progress in another process: wait for it, or stop it ({self.folder})"
            ) from None
        try:
            self._handler = signal.signal(signal.SIGINT, self._on_signal)
        except ValueError:  # signals can be caught in the main thread only
            self._handler = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if self._writer is not None:
            self._writer.close()
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def resume(self, **parts: Stateful) -> None:
        """Name what is to be saved, and load it where an earlier process left a state."""
        self._parts = parts
        file = self.folder / "state.pt"
        if not file.is_file():
            return
        state = torch.load(file, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        self.start = state["step"]
        CONSOLE.print(f"{self.name}: resumes from step {self.start}")

    def steps(self, total: int, title: str) -> Iterator[int]:
        """Numbers of the steps that remain. State is saved between them: when it is due, and before Ctrl-C works."""
        saved, cost = time.monotonic(), 0.0
        with progress.bar(title, total, self.start, keep=True) as self._bar:
            for step in range(self.start, total):
                yield step
                self._bar.advance()
                due = time.monotonic() - saved > max(SAVE_SECONDS, cost / SAVE_SHARE)
                if due or self._interrupted:
                    started = time.monotonic()
                    self.save(step + 1)
                    saved, cost = time.monotonic(), time.monotonic() - started
                if self._interrupted:
                    raise KeyboardInterrupt

    def save(self, step: int) -> None:
        """Write the state to a temporary file, then rename it.

        Raises:
            UserError: it cannot be written; the state that was saved before is still there.
        """
        state = {"step": step, "parts": {name: part.state_dict() for name, part in self._parts.items()}}
        temporary = self.folder / "state.pt.partial"
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / "state.pt")
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            fault = error if isinstance(error, OSError) else error.__context__  # torch raises one of its own
            if not isinstance(fault, OSError):
                raise
            raise UserError(
                f"the state of the run cannot be written to {self.folder} ({fault.strerror}): make room there and run "
                "the same command, which resumes from the state before"
            ) from None

    def log(self, step: int, scalars: Mapping[str, float], note: str | None = None) -> None:
        """TensorBoard scalars of a step, and optionally a few words beside the progress bar."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # purge_step hides what a killed process logged beyond the state that this one starts from.
            self._writer = SummaryWriter(str(self._logs), purge_step=self.start or None)
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        if note is not None:
            self._bar.note(note)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait for the step
        self._interrupted = True


def resolved(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return values


def _from_home(value: Any, home: Path) -> Any:
    """A setting with files of the home folder named from it, so that a run resumes wherever that folder lies now."""
    if isinstance(value, list):
        return [_from_home(part, home) for part in value]
    return value.replace(f"{home}/", "{home}/") if isinstance(value, str) else value


def derive_seed(*names: int | str) -> int:
    """A seed from names, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:6], "big")


def rng_for(*names: int | str) -> random.Random:
    """A generator that depends on the names alone, such as (seed, "order", epoch)."""
    return random.Random(derive_seed(*names))
