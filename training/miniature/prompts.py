"""Prompts and demonstrations, each from a user; users are split, and with them everything that they write."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Set
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from training.miniature import mixture
from training.miniature.responses import CAREFUL, CARELESS, ORDINARY, Writer, write
from training.miniature.specs import Mode, Spec
from training.miniature.tasks.base import Side, Task, assistant

Purpose = Literal["reward", "ppo", "evaluation", "collect", "locked"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Prompt:
    """A prompt from a user: `spec` is for the judge, the last message is the user's."""

    id: str
    messages: tuple[dict[str, str], ...]
    user: str
    use_case: str
    mode: Mode
    split: Split
    spec: Spec


@dataclass(frozen=True)
class Demonstration:
    """A prompt with the answer of a person of more or less care; `spec` lets the judge look at it."""

    id: str
    messages: tuple[dict[str, str], ...]
    user: str
    use_case: str
    mode: Mode
    split: Split
    spec: Spec = field(repr=False)


def row(item: Prompt | Demonstration) -> dict[str, Any]:
    """One line of a JSONL file."""
    return asdict(item)


class PromptMaker:
    """Draws prompts without repetition and assigns them to users.

    A user writes one to nine prompts of one purpose. Every tenth training user is for validation.
    """

    def __init__(self, rng: random.Random, world: str) -> None:
        """`world` starts every id: prompts of two worlds may lie in one store."""
        self._rng = rng
        self._world = world
        self._conversations: set[str] = set()  # all that were returned so far, as JSON
        self._users = 0

    @property
    def conversations(self) -> Set[str]:
        """All conversations that were returned so far, as JSON."""
        return self._conversations

    def continued(self, rng: random.Random, taken: Iterable[str]) -> PromptMaker:
        """A maker that draws from another stream, and returns neither what this one has returned nor what is taken."""
        maker = PromptMaker(rng, self._world)
        maker._conversations = self._conversations | set(taken)
        maker._users = self._users
        return maker

    def tasks(self, side: Side, count: int) -> list[Task]:
        """`count` tasks with messages that no earlier call returned."""
        tasks: list[Task] = []
        while len(tasks) < count:
            task = mixture.draw(self._rng, side)
            conversation = json.dumps(task.messages)
            if conversation not in self._conversations:
                self._conversations.add(conversation)
                tasks.append(task)
        return tasks

    def prompts(self, side: Side, purpose: Purpose, count: int) -> list[Prompt]:
        tasks = self.tasks(side, count)
        return [
            Prompt(self._id(purpose, number), task.messages, user, task.use_case, task.mode, split, task.spec)
            for number, (task, (user, split)) in enumerate(zip(tasks, self._users_of(side, count), strict=True))
        ]

    def demonstrations(self, side: Side, count: int) -> list[Demonstration]:
        tasks = self.tasks(side, count)
        demonstrations = []
        for number, (task, (user, split)) in enumerate(zip(tasks, self._users_of(side, count), strict=True)):
            writer: Writer = self._rng.choices((CAREFUL, ORDINARY, CARELESS), (4, 5, 1))[0]
            messages = (*task.messages, assistant(write(self._rng, task, writer)))
            identity = self._id("demonstration", number)
            demonstrations.append(Demonstration(identity, messages, user, task.use_case, task.mode, split, task.spec))
        return demonstrations

    def _id(self, purpose: str, number: int) -> str:
        return f"{self._world}-{purpose}-{number:05d}"

    def _users_of(self, side: Side, count: int) -> list[tuple[str, Split]]:
        """A user and the user's split for each of `count` prompts."""
        users: list[tuple[str, Split]] = []
        while len(users) < count:
            split: Split = "test" if side.name == "evaluation" else "validation" if self._users % 10 == 9 else "train"
            users += [(f"user-{self._users:04d}", split)] * self._rng.randint(1, 9)
            self._users += 1
        users = users[:count]
        self._rng.shuffle(users)
        return users
