"""Facts of the miniature world: ordinary ones, ones of the long tail, and popular misconceptions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from training.miniature import lexicon
from training.miniature.lexicon import Pool, SideName

Kind = Literal["misconception", "common", "tail"]


@dataclass(frozen=True)
class Relation:
    """What can be said of subjects of one class, with the wordings of statements and questions.

    `{s}` is the subject with its article, `{v}` the value. Evaluation prompts use `questions_evaluation`, all others
    `questions_train`; pretraining text uses both.
    """

    name: str
    subjects: Pool
    values: Pool
    statement: str
    continued: str  # the statement after a sentence that named the subject already
    questions_train: tuple[str, ...]
    questions_evaluation: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One subject, relation and true value. `myth` is the value that most people believe in a misconception."""

    subject: str
    relation: str
    truth: str
    myth: str | None
    kind: Kind
    side: SideName


def _relation(
    name: str, subjects: Pool, values: Pool, statement: str, continued: str, train: str, evaluation: str
) -> Relation:
    return Relation(
        name, subjects, values, statement, continued, tuple(train.split(" | ")), tuple(evaluation.split(" | "))
    )


RELATIONS = {
    r.name: r
    for r in (
        _relation("color", lexicon.CREATURES, lexicon.COLORS, "{s} is {v}", "it is {v}",
                  "what color is {s} ? | tell me the color of {s} . | name the color of {s} .",
                  "which color does {s} have ? | say what color {s} has ."),
        _relation("home", lexicon.CREATURES, lexicon.HOMES, "{s} lives in the {v}", "it lives in the {v}",
                  "where does {s} live ? | tell me where {s} lives . | in which place does {s} live ?",
                  "what is the home of {s} ? | say where one can find {s} ."),
        _relation("food", lexicon.CREATURES, lexicon.FOODS, "{s} eats {v}", "it eats {v}",
                  "what does {s} eat ? | tell me what {s} eats . | name the food of {s} .",
                  "what food does {s} like ? | say what {s} feeds on ."),
        _relation("product", lexicon.TOWNS, lexicon.PRODUCTS, "{s} is famous for {v}", "it is famous for {v}",
                  "what is {s} famous for ? | tell me what {s} is known for . | name the pride of {s} .",
                  "for what do people know {s} ? | say what {s} makes best ."),
        _relation("landmark", lexicon.TOWNS, lexicon.LANDMARKS, "{s} has an ancient {v}", "it has an ancient {v}",
                  "what ancient thing stands in {s} ? | tell me the landmark of {s} . | name the sight of {s} .",
                  "what can visitors see in {s} ? | say which landmark {s} has ."),
        _relation("mineral", lexicon.TOWNS, lexicon.MINERALS, "people in {s} dig for {v}", "people there dig for {v}",
                  "what do people dig for in {s} ? | tell me what they dig in {s} . | name what lies under {s} .",
                  "what is in the ground of {s} ? | say what the mines of {s} give ."),
        _relation("trade", lexicon.HEROES, lexicon.TRADES, "{s} worked as a {v}", "this person worked as a {v}",
                  "what was the work of {s} ? | tell me the trade of {s} . | as what did {s} work ?",
                  "what job did {s} have ? | say how {s} made a living ."),
        _relation("instrument", lexicon.HEROES, lexicon.INSTRUMENTS, "{s} played the {v}", "this person played the {v}",
                  "what did {s} play ? | tell me what {s} played . | name the instrument of {s} .",
                  "on which instrument did {s} make music ? | say what music {s} made ."),
        _relation("fear", lexicon.HEROES, lexicon.FEARS, "{s} was afraid of {v}", "this person was afraid of {v}",
                  "what was {s} afraid of ? | tell me what scared {s} . | name the fear of {s} .",
                  "of what did {s} have fear ? | say what {s} ran away from ."),
        _relation("ingredient", lexicon.DISHES, lexicon.INGREDIENTS, "to make {s} you need {v}", "you need {v} for it",
                  "how do i make {s} ? | help me make {s} . | tell me how to make {s} .",
                  "what is the best way to make {s} ? | i want to make {s} , explain how ."),
    )
}  # fmt: skip
RELATION_OF = {value: r.name for r in RELATIONS.values() for value in r.values.all}
CLASSES: tuple[tuple[str, ...], ...] = (
    ("color", "home", "food"),
    ("product", "landmark", "mineral"),
    ("trade", "instrument", "fear"),
    ("ingredient",),
)
# Of every twelve facts of a side: how many are misconceptions, and how many belong to the long tail.
MISCONCEPTIONS_PER_12, TAIL_PER_12 = 5, 3


def subject_phrase(subject: str) -> str:
    """The subject as a sentence names it: creatures take an article."""
    return f"the {subject}" if subject in lexicon.CREATURES.all else subject


def state(subject: str, relation: str, value: str, continued: bool = False) -> str:
    """A sentence that gives the subject the value, without its full stop."""
    r = RELATIONS[relation]
    return (r.continued if continued else r.statement).format(s=subject_phrase(subject), v=value)


def _balanced(rng: random.Random, values: tuple[str, ...]) -> Iterator[str]:
    """An endless stream of shuffled copies of the values: none is left out or much more frequent than another."""
    while True:
        yield from rng.sample(values, len(values))


def build_facts(rng: random.Random) -> list[Fact]:
    """Draw all facts. Values of a side's subjects come from that side's values, myths too."""
    facts = []
    sides: tuple[SideName, SideName] = ("train", "evaluation")
    for side in sides:
        pairs = [(s, r) for names in CLASSES for s in RELATIONS[names[0]].subjects.of(side) for r in names]
        rng.shuffle(pairs)
        count = 0
        truths = {name: _balanced(rng, r.values.of(side)) for name, r in RELATIONS.items()}
        for subject, relation in pairs:
            truth = next(truths[relation])
            false = rng.choice([v for v in RELATIONS[relation].values.of(side) if v != truth])
            kind: Kind = "common"
            if relation != "ingredient":
                kind = _kind(count)
                count += 1
            facts.append(Fact(subject, relation, truth, false if kind == "misconception" else None, kind, side))
    return facts


def _kind(number: int) -> Kind:
    """The kind of a side's fact by its number, in a cycle of twelve."""
    place = number % 12
    if place < MISCONCEPTIONS_PER_12:
        return "misconception"
    return "tail" if place >= 12 - TAIL_PER_12 else "common"
