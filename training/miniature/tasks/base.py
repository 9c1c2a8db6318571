"""What a task is, and the side of the world that it draws its words from."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.miniature import lexicon
from training.miniature.facts import RELATIONS, Fact, Kind
from training.miniature.lexicon import Pool, SideName

OPENERS = Pool(
    ("", "", "please : ", "i need help . ", "quick question : ", "{n} asks : ", "good day . ", "can you help me ? "),
    ("", "hello there . ", "one more thing : ", "{n} would like this : ", "excuse me . "),
)


@dataclass(frozen=True)
class Task:
    """An instruction with answers of known quality.

    Attributes:
        use_case: one of InstructGPT's ten.
        messages: the conversation, ending with the user.
        spec: all that the judge needs (see judge.py), as JSON.
        good: answers that are right.
        flawed: answers as a careless or mistaken writer gives them.
    """

    use_case: str
    messages: tuple[dict[str, str], ...]
    spec: dict[str, Any]
    good: tuple[str, ...]
    flawed: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """Words and facts of one side of the world: training, evaluation, or both (for pretraining text)."""

    name: SideName
    facts: tuple[Fact, ...]
    of_subject: Mapping[str, dict[str, Fact]] = field(default_factory=dict)
    of_kind: Mapping[Kind, tuple[Fact, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: SideName, facts: Sequence[Fact]) -> Side:
        kept = tuple(f for f in facts if name in ("any", f.side))
        subjects: dict[str, dict[str, Fact]] = {}
        kinds: dict[Kind, tuple[Fact, ...]] = {}
        for fact in kept:
            subjects.setdefault(fact.subject, {})[fact.relation] = fact
            kinds[fact.kind] = (*kinds.get(fact.kind, ()), fact)
        return cls(name, kept, subjects, kinds)

    def subject(self, rng: random.Random, pool: Pool, least: int = 1) -> str:
        """A subject of which this side holds at least `least` facts."""
        while len(self.of_subject.get(subject := self.word(rng, pool), ())) < least:
            pass
        return subject

    def word(self, rng: random.Random, pool: Pool) -> str:
        return rng.choice(pool.of(self.name))

    def another(self, rng: random.Random, pool: Pool, *known: str) -> str:
        """A word of the pool that is none of the known ones."""
        return rng.choice([word for word in pool.of(self.name) if word not in known])

    def words(self, rng: random.Random, pool: Pool, count: int) -> list[str]:
        return rng.sample(pool.of(self.name), count)

    def wording(self, rng: random.Random, wordings: Pool) -> str:
        return rng.choice(wordings.of(self.name))

    def truths(self, subject: str) -> dict[str, str]:
        """True values of a subject by relation."""
        return {relation: fact.truth for relation, fact in self.of_subject[subject].items()}

    def question_wordings(self, relation: str) -> Pool:
        return Pool(RELATIONS[relation].asked_train, RELATIONS[relation].asked_evaluation)


def wordings(train: str, evaluation: str) -> Pool:
    """Wordings separated by ` | `."""
    return Pool(tuple(train.split(" | ")), tuple(evaluation.split(" | ")))


def ask(
    rng: random.Random, side: Side, wording: str, fills: Mapping[str, str], *, opened: bool = True
) -> tuple[dict[str, str], str]:
    """A user message from a wording, and the skeleton (opener and wording) that it was made from."""
    opener = side.wording(rng, OPENERS) if opened else ""
    name = side.word(rng, lexicon.NAMES)
    return user(opener.format(n=name) + wording.format(**fills)), opener + wording


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def words(text: str) -> int:
    """Number of words, punctuation left out."""
    return sum(token.isalpha() for token in text.split())


def limit(good: Sequence[str], slack: int = 3) -> int:
    """The most words a concise answer may have."""
    return max(words(answer) for answer in good) + slack
