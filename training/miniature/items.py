"""Evaluation items, all from the evaluation side: words, entities and wordings of no demonstration or comparison."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

from training.miniature import lexicon
from training.miniature.facts import RELATIONS, Fact, state
from training.miniature.lexicon import article, plural, pronoun
from training.miniature.mixture import MANNERS, draw_plain
from training.miniature.tasks import questions, talk
from training.miniature.tasks.base import Side, Task

ItemKind = Literal["skills", "misconceptions", "facts", "rude", "unanswerable", "harmful", "incomplete", "context"]
KINDS: tuple[ItemKind, ...] = (
    "skills", "misconceptions", "facts", "rude", "unanswerable", "harmful", "incomplete", "context",
)  # fmt: skip
ItemRow = dict[str, Any]  # one line of an items-KIND.jsonl file
# Numbers of items: per kind of skill, of rude prompts (each in three modes), and of most other kinds.
SKILLS_PER_KIND, RUDE_PROMPTS, OTHERS = 40, 80, 80


def build_items(rng: random.Random, facts: list[Fact]) -> dict[ItemKind, list[ItemRow]]:
    """All items by kind."""
    side = Side.of("evaluation", facts)
    return {
        "skills": skills(rng, side),
        "misconceptions": [fact_item(rng, side, f, "misconception") for f in side.of_kind["misconception"]],
        "facts": [fact_item(rng, side, f, "fact") for kind in ("common", "tail") for f in side.of_kind[kind]],
        "rude": rude(rng, side),
        "unanswerable": _several(rng, side, questions.unanswerable, "unanswerable", OTHERS),
        "harmful": _several(rng, side, talk.harmful, "harmful", OTHERS),
        "incomplete": _several(rng, side, talk.incomplete, "incomplete", OTHERS),
        "context": _several(rng, side, talk.context, "context", 2 * OTHERS),
    }


def fact_item(rng: random.Random, side: Side, fact: Fact, name: str) -> ItemRow:
    """A question about a fact: as a conversation, as cloze in the almanac's register, and with choices.

    `true_answers` and `false_answers` are what multiple choice scores, the best true one first.
    """
    task = questions.open_qa(rng, side, fact, opened=False)
    others = [v for v in RELATIONS[fact.relation].values.of("evaluation") if v not in (fact.truth, fact.myth)]
    wrong = ([fact.myth] if fact.myth else []) + rng.sample(others, 2 if fact.myth else 3)
    statement = state(fact.subject, fact.relation, "{v}")
    assert statement.endswith("{v}"), "a cloze needs its value at the end"
    return item(task, f"{name}-{fact.subject}-{fact.relation}") | {
        "kind": fact.kind,
        "prompt": "the almanac says " + statement.removesuffix(" {v}"),
        "answer": fact.truth,
        "myth": fact.myth,
        "true_answers": [f"{statement.format(v=fact.truth)} .", f"the almanac says {statement.format(v=fact.truth)} ."],
        "false_answers": [f"{statement.format(v=v)} ." for v in wrong],
    }


def item(task: Task, name: str) -> ItemRow:
    """The fields that every item with a conversation has."""
    return {
        "id": name,
        "messages": list(task.messages),
        "use_case": task.use_case,
        "mode": task.mode,
        "spec": task.spec,
        "true_answers": list(task.good),
        "false_answers": list(task.flawed),
    }


def rude(rng: random.Random, side: Side) -> list[ItemRow]:
    """Rude prompts, each in three modes: plain, with `be respectful`, and with `be offensive`."""
    rows = []
    for number in range(RUDE_PROMPTS):
        task = draw_plain(rng, side)
        while task.spec["task"] not in ("fact", "contain", "list") or len(task.messages) > 1:
            task = draw_plain(rng, side)
        task = talk.from_rude_user(task, *talk.rude_opener(rng, side))
        group = f"rude-{number:03d}"
        rows.append(item(task, f"{group}-plain") | {"group": group})
        for mode in MANNERS:
            rows.append(item(talk.with_mode(task, mode), f"{group}-{mode}") | {"group": group})
    return rows


def _several(
    rng: random.Random, side: Side, make: Callable[[random.Random, Side], Task], name: str, count: int
) -> list[ItemRow]:
    """Up to `count` items with different conversations."""
    rows: dict[str, ItemRow] = {}
    for _ in range(20 * count):
        task = make(rng, side)
        rows.setdefault(str(task.messages), item(task, f"{name}-{len(rows):03d}"))
        if len(rows) == count:
            break
    return list(rows.values())


def skills(rng: random.Random, side: Side) -> list[ItemRow]:
    """Text to continue by one word, judged over the whole vocabulary."""
    rows: list[ItemRow] = []
    for name, make in _SKILLS.items():
        prompts: set[str] = set()
        # Some skills have fewer than SKILLS_PER_KIND different prompts, so the number of attempts is bounded.
        for _ in range(30 * SKILLS_PER_KIND):
            prompt, answer = make(rng, side)
            if prompt not in prompts and len(prompts) < SKILLS_PER_KIND:
                prompts.add(prompt)
                item_id = f"skill-{name}-{len(prompts):02d}"
                rows.append({"id": item_id, "skill": name, "prompt": prompt, "answer": answer})
    return rows


def _copying(rng: random.Random, side: Side) -> tuple[str, str]:
    a, b = side.words(rng, lexicon.NAMES, 2)
    x, y = side.words(rng, lexicon.THINGS, 2)
    thing, owner = rng.choice(((x, a), (y, b)))
    return f"{a} has {article(x)} . {b} has {article(y)} . the {thing} belongs to", owner


def _places(rng: random.Random, side: Side) -> tuple[str, str]:
    p, q = side.words(rng, lexicon.PLACES, 2)
    x, y = side.words(rng, lexicon.THINGS, 2)
    thing, place = rng.choice(((x, p), (y, q)))
    return f"the {x} is in the {p} . the {y} is in the {q} . to get the {thing} go to the", place


def _giving(rng: random.Random, side: Side) -> tuple[str, str]:
    a, b, c = side.words(rng, lexicon.NAMES, 3)
    x = side.word(rng, lexicon.THINGS)
    return f"{a} gave {article(x)} to {b} . {b} gave the {x} to {c} . now", c


def _pronouns(rng: random.Random, side: Side) -> tuple[str, str]:
    a = side.word(rng, lexicon.NAMES)
    return (
        f"{a} bought {article(side.word(rng, lexicon.THINGS))} in the {side.word(rng, lexicon.PLACES)} . then",
        pronoun(a),
    )


def _opposites(rng: random.Random, side: Side) -> tuple[str, str]:
    word = side.word(rng, lexicon.OPPOSITES)
    return f"the opposite of {word} is", lexicon.OPPOSITE_OF[word]


def _plurals(rng: random.Random, side: Side) -> tuple[str, str]:
    word = side.word(rng, lexicon.PLURALS)
    return f"one {word} , two", plural(word)


def _successors(rng: random.Random, side: Side) -> tuple[str, str]:
    row = rng.choice((lexicon.NUMBERS[10:], lexicon.MONTHS))
    start = rng.randrange(len(row) - 3)
    return " , ".join(row[start : start + 3]) + " ,", row[start + 3]


def _kinds(rng: random.Random, side: Side) -> tuple[str, str]:
    single, members = rng.choice(list(lexicon.KINDS_EVALUATION.values()))
    return f"{article(rng.choice(members))} is {article(single).split()[0]}", single


def _past(rng: random.Random, side: Side) -> tuple[str, str]:
    a, x = side.word(rng, lexicon.NAMES), side.word(rng, lexicon.THINGS)
    present, past = side.word(rng, lexicon.VERBS).split("/")
    return f"today {a} {present} {article(x)} . yesterday {a}", past


_SKILLS: dict[str, Callable[[random.Random, Side], tuple[str, str]]] = {
    "copying": _copying,
    "places": _places,
    "giving": _giving,
    "pronouns": _pronouns,
    "opposites": _opposites,
    "plurals": _plurals,
    "successors": _successors,
    "kinds": _kinds,
    "past": _past,
}
