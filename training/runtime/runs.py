"""What every run shares: its key, its lock, saved state, progress bar and scalars.

Every random number of a stage comes from a generator seeded by (seed, purpose, step), see `rng_for`, never from a
stateful stream. So models, optimizer, a stage's own numbers and the step are the whole state: a resumed run gives the
same bits as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Protocol

import torch

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import to_disk, write_atomically
from training.artifacts.machine import boot_id, pid_namespace
from training.runtime import dtensors, locks, ranks, trackers
from training.runtime.metrics import Metrics
from training.runtime.signals import StopRequest

CONSOLE = progress.CONSOLE
STATE, ABOUT, NOT_FINITE = "state.pt", "run.json", "not-finite.json"  # files of a run's folder
# Metadata of a configuration's field whose value changes no number of the result, but for the order of sums: memory
# and places. A run with another value of it is the same run, and resumes.
NO_NUMBERS = MappingProxyType({"changes_numbers": False})
SAVE_SECONDS = 30.0
SAVE_SHARE = 0.05  # of the time at most goes into saving


class Stateful(Protocol):
    """What a run saves: models, optimizers, averages, and a stage's own numbers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Run:
    """One run of a stage, used as `with Run(...) as run:`.

    The same command finds the same state: the key is a hash over the settings that change numbers (all but those
    declared `NO_NUMBERS`), the parents' ids and the data. Settings that change the schedule, such as the number of
    steps, are among them: learning rates and averages depend on the whole length from the first step on. The number of
    processes changes nothing but the order of sums, and is not: a run resumes with any number of them.

    Of several processes the main one locks, logs, saves and deletes; all enter, resume, step and leave together.

    Args:
        home: folder that everything is written to.
        stage: name of the command.
        config: the stage's configuration, a dataclass.
        inputs: ids of parent checkpoints and hashes of data.

    Raises:
        UserError: the same run is in progress in another process, or the processes of this one differ in what they run.
    """

    def __init__(self, home: Path, stage: str, config: Any, inputs: Sequence[str]) -> None:
        self.config = resolved(config)
        self._settings = settings_of(config, home)
        self._stage, self._inputs = stage, list(inputs)
        text = json.dumps([stage, self._settings, self._inputs], sort_keys=True, default=str)
        self.name = f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self.folder = home / "work" / self.name
        self.start = 0
        self._logs = home / "tensorboard" / self.name
        self._parts: dict[str, Stateful] = {}
        self._bar: progress.Bar
        self._ended = False
        self._stop = StopRequest(patient=ranks.count() > 1)
        self._lock: IO[str] | None = None
        self._metrics: Metrics | None = None
        self._log_to = tuple(getattr(config, "log_to", ()))

    def __enter__(self) -> Run:
        if ranks.is_main():
            trackers.check(self._log_to)
            self._begin()
        ranks.require_same(self.name, "the run")
        self._stop.catch()
        return self

    def _begin(self) -> None:
        self._lock = locks.try_lock(self.folder)
        if self._lock is None:
            raise UserError(
                f"this run is already in progress in another process: wait for it, or stop it ({self.folder})"
            )
        facts = {"stage": self._stage, "settings": self._settings, "inputs": self._inputs, "machine": machine_name()}
        write_atomically(self.folder / ABOUT, json.dumps(facts, indent=2) + "\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.release()
        if self._metrics is not None:
            self._metrics.close(completed=kind is None)
        if kind is None:
            ranks.barrier()
        if kind is None and ranks.is_main():
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def resume(self, **parts: Stateful) -> None:
        """Name what is to be saved, and load it where an earlier process left a state."""
        self._parts = parts
        file = self.folder / STATE
        ranks.require_same(file.is_file(), "whether there is a saved state")
        if not file.is_file():
            self._name_others()
            return
        # Several processes read of the file what they need, instead of all of it into the memory of each.
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=ranks.count() > 1)
        for name, part in parts.items():
            saved = state["parts"][name]
            if isinstance(part, torch.optim.Optimizer):
                saved = dtensors.for_optimizer(part, saved)
            part.load_state_dict(saved)
        self.start, self._ended = state["step"], state["ended"]
        ranks.require_same(self.start, "the step of the saved state")
        CONSOLE.print(f"{self.name}: resumes from step {self.start}")

    def steps(self, total: int, title: str) -> Iterator[int]:
        """Numbers of the steps that remain. State is saved between them when it is due, before a signal ends the
        process, and after the last one: whatever fails afterwards, such as a full disk, no step is taken again.

        All processes save and stop after the same step: when it is due in the main one, and when any got a signal.
        """
        if self._ended:
            return
        saved, cost = time.monotonic(), 0.0
        with progress.bar(title, total, self.start, keep=True) as self._bar, self._stop.postponed():
            for step in range(self.start, total):
                yield step
                self._bar.advance()
                last = self._ended or step + 1 == total
                due = ranks.is_main() and time.monotonic() - saved > max(SAVE_SECONDS, cost / SAVE_SHARE)
                due_for_all, signal_of_any = ranks.most([due, self._stop.number or 0])
                if due_for_all or last or signal_of_any:
                    started = time.monotonic()
                    self.save(step + 1)
                    saved, cost = time.monotonic(), time.monotonic() - started
                if signal_of_any:
                    self._stop.number = int(signal_of_any)
                if signal_of_any or ranks.count() == 1:
                    self._stop.obey()
                if self._ended:
                    return

    def end(self) -> None:
        """Let the step in progress be the last one, also for a process that resumes this run."""
        self._ended = True

    def save(self, step: int) -> None:
        """Write the state to a temporary file, then rename it.

        Raises:
            UserError: it cannot be written; the state that was saved before is still there.
        """
        parts = {name: dtensors.for_saving(part.state_dict()) for name, part in self._parts.items()}
        if not ranks.is_main():
            return
        state = {"step": step, "ended": self._ended, "parts": parts}
        temporary = self.folder / f"{STATE}.partial"
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                to_disk(file)
            temporary.replace(self.folder / STATE)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            fault = error if isinstance(error, OSError) else error.__context__  # torch raises one of its own
            if not isinstance(fault, OSError):
                raise
            raise UserError(
                f"the state of the run cannot be written to {self.folder} ({fault.strerror}): make room there and run "
                "the same command, which resumes from the state before"
            ) from None

    def check_finite(
        self,
        step: int,
        figures: Mapping[str, float],
        numbers: Mapping[str, Sequence[int]],
        rows: Iterable[Iterable[int]],
    ) -> None:
        """Stop the run before a step whose loss or gradient is not finite changes the weights.

        Args:
            figures: of the step, by name.
            numbers: of the step's rows, by what they are rows of.
            rows: their token ids.

        Raises:
            UserError: a figure is infinite or not a number. Step, figures and rows are written to a file of the run's
                folder; the state that was saved before stays as it is.
        """
        faults = [name for name, value in figures.items() if not math.isfinite(value)]
        if not faults:
            return
        report = {
            "step": step,
            "figures": {name: value if math.isfinite(value) else str(value) for name, value in figures.items()},
            "rows": {name: list(map(int, of)) for name, of in numbers.items()},
            "token_ids": [list(map(int, row)) for row in rows],
        }
        file = self.folder / NOT_FINITE
        if ranks.is_main():
            write_atomically(file, json.dumps(report) + "\n")
        ranks.barrier()  # whoever ends first ends the others
        raise UserError(
            f"step {step}: {faults[0]} is {figures[faults[0]]}, so nothing is published and the last state stays; the "
            f"step and its rows are in {file}: use a smaller --learning-rate, or --dtype float32, or mend the data"
        )

    def log(self, step: int, scalars: Mapping[str, float], note: str | None = None) -> None:
        """Scalars of a step, and optionally a few words beside the progress bar."""
        if self._metrics is None and ranks.is_main():
            own = trackers.opened(self._log_to, self.name, self._settings, self._logs)
            self._metrics = Metrics(self._logs, self.start, own)
        if self._metrics is not None:
            self._metrics.write(step, scalars)
        if note is not None:
            self._bar.note(note)

    def _name_others(self) -> None:
        """Say which run with the same inputs and other settings left a state, so that nobody waits for it here."""
        for file in self.folder.parent.glob(f"{self._stage}-*/{ABOUT}"):
            other = about(file.parent)
            same_inputs = other.get("stage") == self._stage and other.get("inputs") == self._inputs
            if file.parent == self.folder or not same_inputs or not (file.parent / STATE).is_file():
                continue
            settings = other.get("settings", {})
            changes = [
                f"--{name.replace('_', '-')} {settings.get(name)} there, {value} here"
                for name, value in self._settings.items()
                if settings.get(name) != value
            ]
            CONSOLE.print(
                f"{self.name} begins at step 0: {file.parent.name}, which left a state, is another run "
                f"({'; '.join(changes)})",
                highlight=False,
                markup=False,
            )


def about(folder: Path) -> dict[str, Any]:
    """What a run's folder says of the run: stage, settings, inputs, machine; nothing where it does not."""
    try:
        read = json.loads((folder / ABOUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def machine_name() -> str:
    """This machine, or this container of it: process ids and locks hold within it."""
    return f"{boot_id()}-{pid_namespace()}"


def settings_of(config: Any, home: Path) -> dict[str, Any]:
    """The settings that change numbers, as JSON values; files of the home folder are named from it."""
    values = resolved(config)
    return {name: _from_home(values[name], home) for name in key_fields(config)}


def key_fields(config: Any) -> list[str]:
    """Names of a configuration's fields that are part of a run's key: all but those declared `NO_NUMBERS`."""
    return [f.name for f in fields(config) if f.metadata.get("changes_numbers", True)]


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
