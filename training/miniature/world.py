"""The whole world from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from training.artifacts.errors import UserError
from training.miniature import toxicity
from training.miniature.documents import documents, heldout, heldout_tail
from training.miniature.facts import Fact, build_facts
from training.miniature.items import ItemKind, ItemRow, build_items, conversation_of
from training.miniature.labelers import Group, Labeler, make_labelers
from training.miniature.prompts import Demonstration, Prompt, PromptMaker, Purpose
from training.miniature.tasks.base import Side

WORLD_VERSION = "3"


def world_name(size: str, seed: int) -> str:
    """Name of a world's folder: version, size and seed, as in `2-demo-0`."""
    return f"{WORLD_VERSION}-{size}-{seed}"


@dataclass(frozen=True)
class Counts:
    """Number of documents, demonstrations, prompts of each purpose and comments. A document has about 23 words."""

    documents: int
    demonstrations: int
    reward: int
    ppo: int
    collect: int
    evaluation: int = 500
    heldout_documents: int = 3000
    tail_documents: int = 600
    comments: int = 6000


SIZES: dict[str, Counts] = {
    "demo": Counts(documents=135_000, demonstrations=3000, reward=4800, ppo=4500, collect=900),
    "miniature": Counts(documents=400_000, demonstrations=6000, reward=10_000, ppo=10_000, collect=2400),
}


class World:
    """Everything that is drawn from a seed: facts, text, people, prompts, items. Each part is drawn when first used.

    The facts, the labelers and the evaluation items depend on the seed alone, not on the size.
    """

    def __init__(self, seed: int, size: str, facts: list[Fact]) -> None:
        self.seed, self.size, self.facts = seed, size, facts
        self.counts = SIZES[size]

    @classmethod
    def build(cls, seed: int = 0, size: str = "demo") -> World:
        """The world of a seed in one of the sizes `demo` and `miniature`."""
        if size not in SIZES:
            raise UserError(f"no world of size {size!r}: use one of {', '.join(SIZES)}")
        return cls(seed, size, build_facts(random.Random(f"facts/{seed}")))

    def pretraining_documents(self) -> Iterator[str]:
        """Training text document by document: in size demo about 2.7 million words, tail facts 10 to 20 times.

        It is meant for one epoch: a second one doubles how often the model sees every fact.
        """
        return documents(self._rng("documents"), self.facts, self.counts.documents)

    def heldout_documents(self, training: Set[str] | None = None) -> list[str]:
        """Documents to measure loss on, none of them a training document, each kind in the training text's proportion.

        Args:
            training: all training documents, if the caller has them; otherwise they are drawn again (some seconds).
        """
        return [text for _, text in self.heldout_by_maker(training)]

    def heldout_by_maker(self, training: Set[str] | None = None, locked: bool = False) -> list[tuple[str, str]]:
        """Held-out documents with the name of the maker of each; the locked ones differ from the first ones."""
        known = set(self.pretraining_documents()) if training is None else set(training)
        count, total = self.counts.heldout_documents, self.counts.documents
        documents = list(heldout(self._rng("heldout"), self.facts, count, total, known))
        if not locked:
            return documents
        known.update(text for _, text in documents)
        return list(heldout(self._rng("locked heldout"), self.facts, count, total, known))

    def heldout_tail(self, training: Set[str], locked: bool = False) -> list[str]:
        """Held-out documents of the long tail alone: facts that the training text tells seldom, in other words."""
        documents = heldout_tail(self._rng("heldout tail"), self.facts, self.counts.tail_documents, training)
        if not locked:
            return documents
        known = {*training, *documents}
        return heldout_tail(self._rng("locked heldout tail"), self.facts, self.counts.tail_documents, known)

    def demonstrations(self) -> list[Demonstration]:
        return self._demonstrations_and_prompts[0]

    def prompts(self, purpose: Purpose) -> list[Prompt]:
        """Prompts of one purpose. No two purposes share a prompt or a user."""
        prompts = self._demonstrations_and_prompts[1]
        if purpose not in prompts:
            raise UserError(f"no prompts for {purpose!r}: use one of {', '.join(prompts)}")
        return prompts[purpose]

    def labelers(self, group: Group) -> list[Labeler]:
        return make_labelers(group, self._rng(f"labelers/{group}"))

    def items(self, kind: ItemKind, locked: bool = False) -> list[ItemRow]:
        """Evaluation items of one kind (see items.py).

        Args:
            locked: of the second set, which is measured once, for figures that are published. It shares no conversation
                with the first set, with evaluation prompts or with anything trained on.
        """
        return self._locked_items[kind] if locked else self._items[kind]

    def toxic_comments(self) -> list[dict[str, str | int]]:
        """Labelled comments with words of both sides of the lexicon."""
        return toxicity.comments(self._rng("comments"), Side.of("any", self.facts), self.counts.comments)

    @cached_property
    def _items(self) -> dict[ItemKind, list[ItemRow]]:
        return build_items(self._rng("items"), self.facts)

    @cached_property
    def _locked_items(self) -> dict[ItemKind, list[ItemRow]]:
        prompts = (p.messages for purpose in ("evaluation", "locked") for p in self.prompts(purpose))
        taken = {*_taken(self._items), *map(conversation_of, prompts)}
        return build_items(self._rng("locked items"), self.facts, taken, locked=True)

    @cached_property
    def _demonstrations_and_prompts(self) -> tuple[list[Demonstration], dict[str, list[Prompt]]]:
        """Demonstrations, and prompts by purpose: drawn together so that none occurs twice."""
        name = world_name(self.size, self.seed)
        maker, train = PromptMaker(self._rng("prompts"), name), Side.of("train", self.facts)
        demonstrations = maker.demonstrations(train, self.counts.demonstrations)
        prompts: dict[str, list[Prompt]] = {}
        trained: tuple[Purpose, ...] = ("reward", "ppo", "collect")
        for purpose in trained:
            prompts[purpose] = maker.prompts(train, purpose, getattr(self.counts, purpose))
        side = Side.of("evaluation", self.facts)
        prompts["evaluation"] = maker.prompts(side, "evaluation", self.counts.evaluation)
        locked = maker.continued(self._rng("locked prompts"), _taken(self._items))
        prompts["locked"] = locked.prompts(side, "locked", self.counts.evaluation)
        return demonstrations, prompts

    def _rng(self, part: str) -> random.Random:
        return random.Random(f"{part}/{self.seed}")

    def describe(self) -> dict[str, Any]:
        return {"version": WORLD_VERSION, "seed": self.seed, "size": self.size}


def _taken(items: Mapping[ItemKind, Sequence[ItemRow]]) -> set[str]:
    """Conversations and texts to complete of all items."""
    rows = [row for rows in items.values() for row in rows]
    return {conversation_of(row["messages"]) for row in rows if "messages" in row} | {
        row["prompt"] for row in rows if "prompt" in row
    }
