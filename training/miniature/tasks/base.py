"""What a task is, and the side of the world that it draws its words from."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.miniature import lexicon
from training.miniature.facts import RELATIONS, Fact, Kind
from training.miniature.lexicon import Pool, SideName
from training.miniature.specs import Mode, Spec

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
        spec: all that the judge needs (see specs.py).
        good: answers that are right.
        flawed: answers as a careless or mistaken writer gives them.
    """

    use_case: str
    messages: tuple[dict[str, str], ...]
    spec: Spec
    good: tuple[str, ...]
    flawed: tuple[str, ...]

    @property
    def mode(self) -> Mode:
        """The manners that the prompt asks for."""
        return self.spec.get("mode", "plain")


@dataclass(frozen=True)
class Side:
    """Words and facts of one side of the world: training, evaluation, or both (for pretraining text).

    Attributes:
        of_subject: the facts of each subject by relation.
        of_kind: the facts of each kind.
    """

    name: SideName
    facts: tuple[Fact, ...]
    of_subject: Mapping[str, dict[str, Fact]]
    of_kind: Mapping[Kind, tuple[Fact, ...]]

    @classmethod
    def of(cls, name: SideName, facts: Sequence[Fact]) -> Side:
        own_facts = tuple(f for f in facts if name in ("any", f.side))
        subjects: dict[str, dict[str, Fact]] = {}
        kinds: dict[Kind, tuple[Fact, ...]] = {}
        for fact in own_facts:
            subjects.setdefault(fact.subject, {})[fact.relation] = fact
            kinds[fact.kind] = (*kinds.get(fact.kind, ()), fact)
        return cls(name, own_facts, subjects, kinds)

    def subject(self, rng: random.Random, pool: Pool, least: int = 1) -> str:
        """A subject of which this side holds at least `least` facts."""
        while True:
            subject = self.word(rng, pool)
            if len(self.of_subject.get(subject, ())) >= least:
                return subject

    def word(self, rng: random.Random, pool: Pool) -> str:
        return rng.choice(pool.of(self.name))

    def another(self, rng: random.Random, pool: Pool, *excluded: str) -> str:
        """A word of the pool that is not excluded."""
        return rng.choice([word for word in pool.of(self.name) if word not in excluded])

    def words(self, rng: random.Random, pool: Pool, count: int) -> list[str]:
        return rng.sample(pool.of(self.name), count)

    def wording(self, rng: random.Random, wordings: Pool) -> str:
        return rng.choice(wordings.of(self.name))

    def truths(self, subject: str) -> dict[str, str]:
        """True values of a subject by relation."""
        return {relation: fact.truth for relation, fact in self.of_subject[subject].items()}

    def question_wordings(self, relation: str) -> Pool:
        return Pool(RELATIONS[relation].questions_train, RELATIONS[relation].questions_evaluation)


def wordings(train: str, evaluation: str) -> Pool:
    """Wordings separated by ` | `."""
    return Pool(tuple(train.split(" | ")), tuple(evaluation.split(" | ")))


def ask(
    rng: random.Random, side: Side, wording: str, fills: Mapping[str, str], *, opened: bool = True
) -> tuple[dict[str, str], str]:
    """A user message from a wording, and its skeleton: opener and wording before names and things are filled in."""
    opener = side.wording(rng, OPENERS) if opened else ""
    name = side.word(rng, lexicon.NAMES)
    return user(opener.format(n=name) + wording.format(**fills)), opener + wording


def without_opener(text: str) -> str:
    """A user's text without the opener that `ask` put before it."""
    return _OPENER.sub("", text, count=1)


_OPENER = re.compile(
    "^(?:"
    + "|".join(re.escape(o).replace(re.escape("{n}"), r"\w+") for o in sorted({*OPENERS.all}, key=len)[::-1] if o)
    + ")"
)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def words(text: str) -> int:
    """Number of words without punctuation."""
    return sum(token.isalpha() for token in text.split())


def limit(good: Sequence[str], slack: int = 3) -> int:
    """The most words that a concise answer may have: those of the longest good one, and some slack."""
    return max(words(answer) for answer in good) + slack
