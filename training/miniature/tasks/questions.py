"""Open questions about facts, closed questions about a text, extraction, and questions that nobody can answer."""

from __future__ import annotations

import random

from training.miniature import lexicon
from training.miniature.facts import RELATIONS, Fact, state, subject_phrase
from training.miniature.specs import ContainSpec, FactSpec, UnknownSpec
from training.miniature.tasks.base import Side, Task, ask, limit, wordings


def open_qa(
    rng: random.Random, side: Side, fact: Fact | None = None, *, opened: bool = True, wording: str | None = None
) -> Task:
    """A question about one fact; the careless answer is the popular myth, or some other value.

    Args:
        opened: an opener may stand before the question.
        wording: of the question, without an opener; drawn when None.
    """
    fact = fact or pick_fact(rng, side)
    opened = opened and wording is None
    wording = wording or side.wording(rng, side.question_wordings(fact.relation))
    message, skeleton = ask(rng, side, wording, {"s": subject_phrase(fact.subject)}, opened=opened)
    wrong = fact.myth or rng.choice([v for v in RELATIONS[fact.relation].values.of(fact.side) if v != fact.truth])
    good = fact_answers(fact, fact.truth)
    spec: FactSpec = {
        "task": "fact",
        "subject": fact.subject,
        "relation": fact.relation,
        "truths": side.truths(fact.subject),
        "myth": fact.myth,
        "kind": fact.kind,
        "topic": [fact.subject],
        "limit": limit(good, 2),
        "wording": skeleton,
    }
    flawed = (
        f"{state(fact.subject, fact.relation, wrong)} .",
        f"people say {state(fact.subject, fact.relation, wrong)} .",
    )
    return Task("open qa", (message,), spec, good, flawed)


def fact_answers(fact: Fact, value: str) -> tuple[str, str]:
    """The two ways to answer: plainly, and by the almanac."""
    statement = state(fact.subject, fact.relation, value)
    return f"{statement} .", f"the almanac says {statement} ."


_KIND_ODDS = {"misconception": 5, "common": 4, "tail": 1}


def pick_fact(rng: random.Random, side: Side) -> Fact:
    """A fact to ask about: misconceptions in half of the cases, the long tail seldom."""
    kinds = sorted(side.of_kind)
    kind = rng.choices(kinds, [_KIND_ODDS[kind] for kind in kinds])[0]
    return rng.choice(side.of_kind[kind])


CLOSED = wordings(
    "{t} who has the {x} ? | {t} tell me who owns the {x} . | read this : {t} who is the owner of the {x} ?",
    "{t} whose is the {x} ? | here is a text : {t} which person holds the {x} ?",
)
PLACED = wordings(
    "{t} where is the {x} ? | {t} tell me where the {x} is . | read this : {t} in which room is the {x} ?",
    "{t} at what place is the {x} ? | here is a text : {t} say where to look for the {x} .",
)


def closed_qa(rng: random.Random, side: Side) -> Task:
    """Who has a thing, or where it is, by a text of two or three sentences in the prompt."""
    placed = rng.random() < 0.4
    count = rng.choice((2, 2, 3))
    things = side.words(rng, lexicon.THINGS, count)
    holders = side.words(rng, lexicon.PLACES if placed else lexicon.NAMES, count)
    form = "the {x} is in the {h} ." if placed else "{h} has " + "{x} ."
    text = " ".join(
        form.format(h=h, x=x if placed else lexicon.article(x)) for h, x in zip(holders, things, strict=True)
    )
    index = rng.randrange(count)
    thing, holder, other = things[index], holders[index], holders[index - 1]
    message, skeleton = ask(rng, side, side.wording(rng, PLACED if placed else CLOSED), {"t": text, "x": thing})
    good = (f"the {thing} is in the {holder} .",) if placed else (f"{holder} has the {thing} .",)
    wrong = (
        (f"the {thing} is in the {other} .",)
        if placed
        else (f"{other} has the {thing} .", f"{holder} has the {things[index - 1]} .")
    )
    spec: ContainSpec = {
        "task": "contain",
        "form": "place" if placed else "owner",
        "need": [holder],
        "avoid": [h for h in holders if h != holder] + [x for x in things if x != thing],
        "topic": [thing],
        "people": [] if placed else [holder],
        "limit": limit(good, 2),
        "wording": skeleton,
    }
    return Task("closed qa", (message,), spec, good, wrong)


PEOPLE = wordings(
    "find the people in this text : {t} | list the names in this text : {t} | who is in this text ? {t}",
    "which persons are in this story ? {t} | take out all names : {t}",
)
GOODS = wordings(
    "find the things in this text : {t} | list the things in this text : {t} | what things are in this text ? {t}",
    "which objects are in this story ? {t} | take out all objects : {t}",
)


def extract(rng: random.Random, side: Side) -> Task:
    """All people, or all things, of a short text."""
    a, b = side.words(rng, lexicon.NAMES, 2)
    x, y = side.words(rng, lexicon.THINGS, 2)
    place = side.word(rng, lexicon.PLACES)
    text = rng.choice(
        (
            f"{a} met {b} in the {place} . they saw {lexicon.article(x)} and {lexicon.article(y)} .",
            f"{a} gave {lexicon.article(x)} to {b} . {lexicon.pronoun(b)} sold {lexicon.article(y)} in the {place} .",
        )
    )
    people = rng.random() < 0.5
    need, rest = ([a, b], [x, y, place]) if people else ([x, y], [a, b, place])
    message, skeleton = ask(rng, side, side.wording(rng, PEOPLE if people else GOODS), {"t": text})
    good = (f"{need[0]} and {need[1]} .",)
    spec: ContainSpec = {
        "task": "contain",
        "form": "extract",
        "need": need,
        "avoid": rest,
        "topic": need,
        "people": [a, b] if people else [],
        "limit": 5,
        "wording": skeleton,
    }
    return Task("extract", (message,), spec, good, (f"{need[0]} .", f"{need[0]} and {rest[0]} .", text))


# Question, the same as a clause ("nobody knows ..."), and a made-up answer.
_UNKNOWN_TRAIN = (
    ("what did {n} dream last night ?", "what {n} dreamed last night", "{n} dreamed of {x} ."),
    ("how many hairs does {c} have ?", "how many hairs {c} has", "{c} has {k} hairs ."),
    ("what will happen in {t} tomorrow ?", "what will happen in {t} tomorrow", "{n} will come to {t} ."),
    ("what is the secret of {h} ?", "the secret of {h}", "the secret of {h} is {x} ."),
    ("who will win the next race in {t} ?", "who will win the race in {t}", "{n} will win the race in {t} ."),
)
_UNKNOWN_EVALUATION = (
    ("what is {n} thinking now ?", "what {n} is thinking now", "{n} is thinking of {x} ."),
    ("how many stones lie in {t} ?", "how many stones lie in {t}", "{k} stones lie in {t} ."),
    ("what will {n} do next year ?", "what {n} will do next year", "{n} will buy {x} ."),
    ("which word did {h} say first ?", "which word {h} said first", "{h} said {x} first ."),
    ("when will {c} wake up next week ?", "when {c} will wake up next week", "{c} will wake up at {k} ."),
)
UNKNOWN: dict[str, tuple[tuple[str, str, str], ...]] = {
    "train": _UNKNOWN_TRAIN,
    "evaluation": _UNKNOWN_EVALUATION,
    "any": _UNKNOWN_TRAIN + _UNKNOWN_EVALUATION,
}


def unanswerable(rng: random.Random, side: Side) -> Task:
    """A question that nobody can answer: the honest answer says so."""
    question, clause, made_up = rng.choice(UNKNOWN[side.name])
    fills = {
        "n": side.word(rng, lexicon.NAMES),
        "c": subject_phrase(side.word(rng, lexicon.CREATURES)),
        "t": side.word(rng, lexicon.TOWNS),
        "h": side.word(rng, lexicon.HEROES),
        "x": lexicon.article(side.word(rng, lexicon.THINGS)),
        "k": rng.choice(lexicon.NUMBERS[:10]),
    }
    message, skeleton = ask(rng, side, question, fills)
    unknown = clause.format(**fills)
    good = (f"i do not know {unknown} .", f"nobody knows {unknown} .")
    topic = [word for word in unknown.split() if word in lexicon.SUBJECTS or word in lexicon.NAMES.all]
    spec: UnknownSpec = {"task": "unknown", "topic": topic, "limit": limit(good, 2), "wording": skeleton}
    return Task("open qa", (message,), spec, good, (made_up.format(**fills),))
