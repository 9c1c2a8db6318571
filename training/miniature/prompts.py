"""Prompts and demonstrations, each from a user; users are split, and with them everything that they write."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from training.miniature import mixture
from training.miniature.responses import CAREFUL, CARELESS, ORDINARY, Writer, write
from training.miniature.tasks.base import Side, Task, assistant

Purpose = Literal["reward", "ppo", "evaluation", "collect"]
Split = Literal["train", "validation", "test"]
Mode = Literal["plain", "respectful", "offensive"]


@dataclass(frozen=True)
class Prompt:
    """A prompt from a user. `spec` holds all that the judge needs; the last message is the user's."""

    id: str
    messages: tuple[dict[str, str], ...]
    user: str
    use_case: str
    mode: Mode
    split: Split
    spec: dict[str, Any]


@dataclass(frozen=True)
class Demonstration:
    """A prompt with an answer that a person wrote, of varying care; `spec` lets the judge look at it."""

    id: str
    messages: tuple[dict[str, str], ...]
    user: str
    use_case: str
    mode: Mode
    split: Split
    spec: dict[str, Any] = field(repr=False)


def row(item: Prompt | Demonstration) -> dict[str, Any]:
    """A line of a JSONL file."""
    return asdict(item)


class PromptMaker:
    """Draws prompts that were never drawn before, and hands them to users of their own.

    A user writes one to nine prompts of one purpose. One in ten training users is for validation.
    """

    def __init__(self, rng: random.Random, world: str) -> None:
        """`world` starts every id: prompts of two worlds may lie in one store."""
        self._rng = rng
        self._world = world
        self._seen: set[str] = set()
        self._users = 0

    def tasks(self, side: Side, count: int) -> list[Task]:
        """`count` tasks with messages that no earlier call returned."""
        found: list[Task] = []
        while len(found) < count:
            task = mixture.draw(self._rng, side)
            key = json.dumps(task.messages)
            if key not in self._seen:
                self._seen.add(key)
                found.append(task)
        return found

    def prompts(self, side: Side, purpose: Purpose, count: int) -> list[Prompt]:
        tasks = self.tasks(side, count)
        return [
            Prompt(
                f"{self._world}-{purpose}-{number:05d}",
                task.messages,
                user,
                task.use_case,
                _mode(task),
                split,
                task.spec,
            )
            for number, (task, (user, split)) in enumerate(zip(tasks, self._writers(side, count), strict=True))
        ]

    def demonstrations(self, side: Side, count: int) -> list[Demonstration]:
        tasks = self.tasks(side, count)
        made = []
        for number, (task, (user, split)) in enumerate(zip(tasks, self._writers(side, count), strict=True)):
            writer: Writer = self._rng.choices((CAREFUL, ORDINARY, CARELESS), (4, 5, 1))[0]
            messages = (*task.messages, assistant(write(self._rng, task, writer)))
            made.append(
                Demonstration(
                    f"{self._world}-demonstration-{number:05d}",
                    messages,
                    user,
                    task.use_case,
                    _mode(task),
                    split,
                    task.spec,
                )
            )
        return made

    def _writers(self, side: Side, count: int) -> list[tuple[str, Split]]:
        """A user and the user's split for each of `count` prompts."""
        assigned: list[tuple[str, Split]] = []
        while len(assigned) < count:
            split: Split = "test" if side.name == "evaluation" else "validation" if self._users % 10 == 9 else "train"
            assigned += [(f"user-{self._users:04d}", split)] * self._rng.randint(1, 9)
            self._users += 1
        assigned = assigned[:count]
        self._rng.shuffle(assigned)
        return assigned


def _mode(task: Task) -> Mode:
    mode: Mode = task.spec.get("mode", "plain")
    return mode
