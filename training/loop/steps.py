"""The steps of a command that runs others: each once, its result in a file, so that a second run resumes."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from training.artifacts import checkpoints, processes
from training.artifacts.files import write_atomically
from training.runtime import runs

print_status = runs.CONSOLE.print


class Results:
    """The result of each step, kept in a file, so that a second run skips what is done.

    A step counts as done while its result exists: a checkpoint of the store, or a file or folder.

    Args:
        home: folder of the store and the logs.
        name: of the file.
        key: of everything that the steps depend on; results of another key are forgotten.
        common: options of every stage.
    """

    def __init__(self, home: Path, name: str, key: str, common: Sequence[str]) -> None:
        self.home = home
        self.file = home / name
        self.key = key
        self.common = list(common)
        saved = json.loads(self.file.read_text()) if self.file.is_file() else {}
        same = saved.get("preset") == key
        self.results: dict[str, str] = saved["steps"] if same else {}
        self.seconds: dict[str, float] = saved.get("seconds", {}) if same else {}

    def done(self, name: str) -> bool:
        result = self.results.get(name)
        if result is None:
            return False
        return Path(result).exists() or (self.home / "checkpoints" / result / checkpoints.MANIFEST).is_file()

    def stage(self, name: str, *arguments: str) -> list[str]:
        """Command of a stage with the common options."""
        return ["training", name, *self.common, *arguments]

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def run(self, steps: dict[str, Sequence[str]]) -> list[str]:
        """Run steps side by side, the first with its progress on the terminal; the result of each.

        A step's result is the last line of its standard output.
        """
        todo = {name: arguments for name, arguments in steps.items() if not self.done(name)}
        threads = processes.shared_cores(len(todo))
        with ExitStack() as stack:
            children = {}
            started = time.monotonic()
            for place, (name, arguments) in enumerate(todo.items()):
                # One that runs beside another logs to a file: two progress bars garble each other.
                log = self.log(name) if place else None
                print_status(f"[bold]{name}[/]" + (f"  (beside it; progress in {log})" if log else ""))
                children[name] = processes.start(arguments, capture=True, log=log, environment=threads)
                stack.callback(processes.stop, children[name])
            for place, (name, child) in enumerate(children.items()):
                output = processes.finish(child, name, self.log(name) if place else None)
                self.keep(name, output.strip().splitlines()[-1], time.monotonic() - started)
        return [self.results[name] for name in steps]

    def keep(self, name: str, result: str, seconds: float) -> None:
        """Remember the result of a step, and how long it took."""
        self.results[name] = result
        self.seconds[name] = round(seconds, 1)
        content = {"preset": self.key, "steps": self.results, "seconds": self.seconds}
        write_atomically(self.file, json.dumps(content, indent=2) + "\n")


def command(*arguments: str) -> str:
    """Run a short command and return its standard output."""
    return processes.finish(processes.start(arguments, capture=True), " ".join(arguments[:2]))


def show(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, accepted: Collection[int] = (0,)
) -> None:
    """Run a command with its output on the terminal."""
    child = processes.start(arguments, environment=environment)
    processes.finish(child, " ".join(arguments[:2]), accepted=accepted)
