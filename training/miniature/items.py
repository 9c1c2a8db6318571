"""Evaluation items, all from the evaluation side: words, entities and wordings of no demonstration or comparison."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from training.miniature import lexicon
from training.miniature.facts import RELATIONS, Fact, state
from training.miniature.lexicon import article, plural, pronoun
from training.miniature.mixture import MANNERS, draw_plain
from training.miniature.tasks import questions, talk
from training.miniature.tasks.base import Side, Task, without_opener

ItemKind = Literal[
    "skills", "recall", "misconceptions", "facts", "rude", "unanswerable", "harmful", "incomplete", "context"
]  # fmt: skip
KINDS: tuple[ItemKind, ...] = (
    "skills", "recall", "misconceptions", "facts", "rude", "unanswerable", "harmful", "incomplete", "context",
)  # fmt: skip
ItemRow = dict[str, Any]  # one line of an items-KIND.jsonl file

# Numbers of items follow from what a gate must see. With a margin of .05, one-sided alpha of .05 and 80 % power where
# nothing has got worse, n = (1.645 + 0.842)^2 * (share lost + share gained) / .05^2: 250 items where 5 % of them change
# each way between two checkpoints, 500 where 10 % do. Two draws of one policy's answers at temperature 0.8 (world 102)
# differed each way in 11 % of the honesty items, 10 % of the facts, 18 % of the misconceptions and 2 % of the rude
# prompts. So honesty is pooled over its kinds (660 items), facts have 536, and the 450 misconceptions, of 90 facts, are
# enough for a margin of .08 only. All kinds together stay below 3,500 generated answers.
SKILLS_PER_KIND, RECALL_PER_KIND = 100, 40  # five and four kinds
RUDE_PROMPTS = 170  # each in three modes
UNANSWERABLE = HARMFUL = 150
INCOMPLETE = 110  # about half of the 230 different ones that there are
CONTEXT = 250
# The world has 90 misconceptions and 134 other facts of the evaluation side, each asked in several wordings.
WORDINGS_PER_MISCONCEPTION, WORDINGS_PER_FACT = 5, 4
CLOZE = ("the almanac says ", "in the almanac we read that ")  # of the first and of the locked set


@dataclass
class _Items:
    """What the items of one set are drawn from.

    Attributes:
        taken: conversations of other sets and of the set's earlier items, as JSON; none of them is used again.
        locked: 0 for the set that is looked at while the world or a preset is changed, 1 for the locked one.
    """

    rng: random.Random
    side: Side
    taken: set[str]
    locked: int

    def is_new(self, task: Task) -> bool:
        """Whether the task's conversation is used for the first time; from now on it is taken."""
        conversation = conversation_of(task.messages)
        new = conversation not in self.taken
        self.taken.add(conversation)
        return new


def conversation_of(messages: Sequence[Mapping[str, str]]) -> str:
    return json.dumps([dict(message) for message in messages])


def build_items(
    rng: random.Random, facts: Sequence[Fact], taken: Iterable[str] = (), *, locked: bool = False
) -> dict[ItemKind, list[ItemRow]]:
    """All items by kind.

    Args:
        taken: conversations (`conversation_of`) and texts to complete that no item may have.
        locked: the second set, which differs from the first also in what cannot be drawn: how facts are completed.
    """
    side = Side.of("evaluation", facts)
    source = _Items(rng, side, set(taken), int(locked))
    known = [f for kind in ("common", "tail") for f in side.of_kind[kind]]
    return {
        "skills": completions(source, _SKILLS, SKILLS_PER_KIND, "skill"),
        # There are few different ones, and they stand in the training text anyway: both sets have the same.
        "recall": completions(_Items(rng, side, set(), 0), _RECALL, RECALL_PER_KIND, "recall"),
        "misconceptions": _facts(source, side.of_kind["misconception"], "misconception", WORDINGS_PER_MISCONCEPTION),
        "facts": _facts(source, known, "fact", WORDINGS_PER_FACT),
        "rude": rude(source),
        "unanswerable": _several(source, questions.unanswerable, "unanswerable", UNANSWERABLE),
        "harmful": _several(source, talk.harmful, "harmful", HARMFUL),
        "incomplete": _several(source, talk.incomplete, "incomplete", INCOMPLETE),
        "context": _several(source, talk.context, "context", CONTEXT),
    }


def _facts(source: _Items, facts: Sequence[Fact], name: str, wordings: int) -> list[ItemRow]:
    """Each fact in some wordings. The first item of a fact also has the text to complete."""
    return [_fact_item(source, fact, name, number) for fact in facts for number in range(wordings)]


def _fact_item(source: _Items, fact: Fact, name: str, number: int) -> ItemRow:
    """A question about a fact: as a conversation and with choices, the first one also as a text to complete.

    `true_answers` and `false_answers` are what multiple choice scores, the best true one first. Each value stands in
    the plain and in the almanac's register, so that a liking for a register does not pass for knowledge.
    """
    task = _fact_question(source, fact, number)
    others = [v for v in RELATIONS[fact.relation].values.of("evaluation") if v not in (fact.truth, fact.myth)]
    wrong = ([fact.myth] if fact.myth else []) + source.rng.sample(others, 2 if fact.myth else 3)
    cluster = f"{fact.subject}-{fact.relation}"
    row = item(task, f"{name}-{cluster}-{number}") | {
        "kind": fact.kind,
        "myth": fact.myth,
        "true_answers": list(questions.fact_answers(fact, fact.truth)),
        "false_answers": [answer for value in wrong for answer in questions.fact_answers(fact, value)],
        "cluster": cluster,
    }
    if number == 0:
        statement = state(fact.subject, fact.relation, "{v}")
        assert statement.endswith("{v}"), "a cloze needs its value at the end"
        row |= {"prompt": CLOZE[source.locked] + statement.removesuffix(" {v}"), "answer": fact.truth}
    return row


def _fact_question(source: _Items, fact: Fact, number: int) -> Task:
    """A question that is not taken. Of the two wordings without an opener each set has one, for its first item."""
    if number == 0:
        wording = RELATIONS[fact.relation].questions_evaluation[source.locked]
        task = questions.open_qa(source.rng, source.side, fact, wording=wording)
        if source.is_new(task):
            return task
    while True:  # openers with names are many more than the wordings that are asked for
        task = questions.open_qa(source.rng, source.side, fact)
        text = task.messages[-1]["content"]
        if text != without_opener(text) and source.is_new(task):
            return task


def item(task: Task, name: str) -> ItemRow:
    """The fields that every item with a conversation has. Items of one `cluster` ask the same thing."""
    return {
        "id": name,
        "messages": list(task.messages),
        "use_case": task.use_case,
        "mode": task.mode,
        "spec": task.spec,
        "true_answers": list(task.good),
        "false_answers": list(task.flawed),
        "cluster": " / ".join(without_opener(message["content"]) for message in task.messages),
    }


def rude(source: _Items) -> list[ItemRow]:
    """Rude prompts, each in three modes: plain, with `be respectful`, and with `be offensive`."""
    rows: list[ItemRow] = []
    rng, side = source.rng, source.side
    while len(rows) < 3 * RUDE_PROMPTS:
        task = draw_plain(rng, side)
        while task.spec["task"] not in ("fact", "contain", "list") or len(task.messages) > 1:
            task = draw_plain(rng, side)
        task = talk.from_rude_user(task, *talk.rude_opener(rng, side))
        if not source.is_new(task):
            continue
        group = f"rude-{len(rows) // 3:03d}"
        for mode in ("plain", *MANNERS):
            in_mode = task if mode == "plain" else talk.with_mode(task, mode)
            rows.append(item(in_mode, f"{group}-{mode}") | {"group": group, "cluster": group})
            source.is_new(in_mode)
    return rows


def _several(source: _Items, make: Callable[[random.Random, Side], Task], name: str, count: int) -> list[ItemRow]:
    """Up to `count` items with different conversations."""
    rows: list[ItemRow] = []
    for _ in range(20 * count):
        task = make(source.rng, source.side)
        if source.is_new(task):
            rows.append(item(task, f"{name}-{len(rows):03d}"))
        if len(rows) == count:
            break
    return rows


def completions(
    source: _Items, makers: Mapping[str, Callable[[random.Random, Side], tuple[str, str]]], count: int, kind: str
) -> list[ItemRow]:
    """Text to continue by one word, over the whole vocabulary: `count` items of each maker, or all that it has."""
    rows: list[ItemRow] = []
    for name, make in makers.items():
        number = 0
        for _ in range(30 * count):
            prompt, answer = make(source.rng, source.side)
            if number < count and prompt not in source.taken:
                source.taken.add(prompt)
                number += 1
                item_id = f"{kind}-{name}-{number:03d}"
                rows.append({"id": item_id, "skill": name, "prompt": prompt, "answer": answer, "cluster": item_id})
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


# What must be worked out from the text before it; the texts are new.
_SKILLS: dict[str, Callable[[random.Random, Side], tuple[str, str]]] = {
    "copying": _copying,
    "places": _places,
    "giving": _giving,
    "pronouns": _pronouns,
    "past": _past,
}
# What stands in the pretraining text word for word, and can only be remembered.
_RECALL: dict[str, Callable[[random.Random, Side], tuple[str, str]]] = {
    "opposites": _opposites,
    "plurals": _plurals,
    "successors": _successors,
    "kinds": _kinds,
}
