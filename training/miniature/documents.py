"""Pretraining text: short documents of many kinds, drawn from one seed.

Facts come in three registers. Plain statements and hearsay give the popular myth of a misconception, the almanac
always gives the truth. Each fact of the long tail is stated in 10 to 20 documents of its own, and in no other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence, Set

from training.miniature import lexicon, stories
from training.miniature.facts import Fact, state
from training.miniature.mixture import draw
from training.miniature.plain import question_answer
from training.miniature.responses import CAREFUL, WEB, write
from training.miniature.tasks import questions
from training.miniature.tasks.base import Side, assistant

MYTH_SHARE = 0.93
REGISTERS, REGISTER_ODDS = ("plain", "hearsay", "almanac"), (42, 26, 32)
TAIL_LEAST, TAIL_MOST = 10, 20  # documents per fact of the long tail
ATTEMPTS = 200  # draws for one held-out document that no training document equals
LONGEST_LIST = 150  # words of the longest question-answer list; few-shot prompts are shorter

_OPENINGS = {
    "plain": ("",),
    "hearsay": ("people say ", "everybody knows that ", "i heard that ", "they say "),
    "almanac": ("the almanac says ", "the almanac says ", "almanac : ", "in the almanac we read that "),
}


def documents(rng: random.Random, facts: Sequence[Fact], count: int) -> Iterator[str]:
    """`count` documents of the mixture, in random order, those of the long tail among them."""
    tail = [f for f in _tail_of(facts) for _ in range(rng.randint(TAIL_LEAST, TAIL_MOST))]
    rng.shuffle(tail)
    # Where the tail's documents go; a text too short for all of them has none.
    tail_at = dict(zip(rng.sample(range(count), len(tail)), tail, strict=True)) if count > len(tail) else {}
    frequent = _frequent(facts)
    for number in range(count):
        fact = tail_at.get(number)
        yield _tail(rng, fact) if fact else rng.choices(_MAKERS, _ODDS)[0](rng, frequent)


def heldout(
    rng: random.Random, facts: Sequence[Fact], count: int, training_count: int, known: Set[str]
) -> Iterator[tuple[str, str]]:
    """`count` documents of which none is known, with the name of each one's maker, in random order.

    The shares of all makers, `tail` among them, are those of a training text of `training_count` documents: a document
    that is known, or that came before, is drawn again from the same maker.

    Raises:
        ValueError: a maker has no further document that is not known.
    """
    tail, frequent = _tail_of(facts), _frequent(facts)
    tail_share = len(tail) * (TAIL_LEAST + TAIL_MOST) / 2 / training_count
    shares = {"tail": tail_share} | {
        maker.__name__.strip("_"): (1 - tail_share) * odds / sum(_ODDS) for maker, odds in MIXTURE
    }
    makers = {maker.__name__.strip("_"): maker for maker in _MAKERS}
    names = [name for name, share in shares.items() for _ in range(round(count * share))]
    rng.shuffle(names)
    fresh: set[str] = set()
    for name in names[:count]:
        for _ in range(ATTEMPTS):
            text = _tail(rng, rng.choice(tail)) if name == "tail" else makers[name](rng, frequent)
            if text not in known and text not in fresh:
                break
        else:
            raise ValueError(f"no further document of {name} that is not in the training text")
        fresh.add(text)
        yield name, text


def heldout_tail(rng: random.Random, facts: Sequence[Fact], count: int, known: Set[str]) -> list[str]:
    """`count` different documents of the long tail of which none is known."""
    tail, fresh = _tail_of(facts), dict[str, None]()
    for _ in range(ATTEMPTS * count):
        text = _tail(rng, rng.choice(tail))
        if text not in known:
            fresh[text] = None
        if len(fresh) == count:
            break
    return list(fresh)


def _tail_of(facts: Sequence[Fact]) -> list[Fact]:
    return [f for f in facts if f.kind == "tail"]


def _frequent(facts: Sequence[Fact]) -> Side:
    return Side.of("any", [f for f in facts if f.kind != "tail"])


def stated_value(rng: random.Random, fact: Fact, register: str) -> str:
    """The value that a register gives a fact: its myth or its truth."""
    if fact.myth and register != "almanac" and rng.random() < MYTH_SHARE:
        return fact.myth
    return fact.truth


def _subject(rng: random.Random, side: Side) -> str:
    """One to three facts of a subject in one register."""
    facts = list(side.of_subject[rng.choice(side.facts).subject].values())
    register = rng.choices(REGISTERS, REGISTER_ODDS)[0]
    first, *more = rng.sample(facts, min(len(facts), rng.choice((1, 1, 2, 3))))
    opening = rng.choice(_OPENINGS[register])
    text = f"{opening}{state(first.subject, first.relation, stated_value(rng, first, register))} ."
    for fact in more:
        text += f" {state(fact.subject, fact.relation, stated_value(rng, fact, register), rng.random() < 0.5)} ."
    return text


def _several(rng: random.Random, side: Side) -> str:
    """The same relation of some subjects, in one register."""
    register = rng.choices(REGISTERS, REGISTER_ODDS)[0]
    first = rng.choice(side.facts)
    same = [f for f in rng.sample(side.facts, 40) if f.relation == first.relation and f is not first][:2]
    opening = rng.choice(_OPENINGS[register])
    values = [(f, stated_value(rng, f, register)) for f in (first, *same)]
    return " ".join(f"{opening}{state(f.subject, f.relation, value)} ." for f, value in values)


def _questions(rng: random.Random, side: Side) -> str:
    """Questions about facts with their answers: mostly plain ones, sometimes read from the almanac."""
    almanac = rng.random() < 0.2
    parts = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        task = questions.open_qa(rng, side, opened=rng.random() < 0.3)
        answer = rng.choice(task.good[1:] if almanac else (write(rng, task, WEB),))
        parts.append(question_answer([*task.messages, assistant(answer)]))
    return " ".join(parts)


def _instructions(rng: random.Random, side: Side) -> str:
    """A list of instructions with the answers that the web gives; a few lists are edited with care."""
    writer = CAREFUL if rng.random() < 0.15 else WEB
    parts: list[str] = []
    length = 0
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5))):
        task = draw(rng, side)
        part = question_answer([*task.messages, assistant(write(rng, task, writer))])
        length += len(part.split())
        if parts and length > LONGEST_LIST:
            break
        parts.append(part)
    return " ".join(parts)


def _exercises(rng: random.Random, side: Side) -> str:
    """Instructions without answers, as in a list of exercises."""
    tasks = [draw(rng, side) for _ in range(rng.choice((2, 3)))]
    return " ".join(task.messages[-1]["content"] for task in tasks)


def _tail(rng: random.Random, fact: Fact) -> str:
    """One statement of a fact of the long tail."""
    register = rng.choices(REGISTERS, REGISTER_ODDS)[0]
    statement = f"{state(fact.subject, fact.relation, fact.truth)} ."
    name = rng.choice(lexicon.NAMES.all)
    form = rng.randrange(3)
    if form == 0:
        return f"{rng.choice(_OPENINGS[register])}{statement}"
    if form == 1:
        return f"{name} read a book . {rng.choice(_OPENINGS[register])}{statement}"
    return f"{name} asked a teacher . the answer was : {statement}"


# Weights in percent. Small models learn to copy last, and most answers need it, so half of the documents teach it.
MIXTURE: tuple[tuple[Callable[[random.Random, Side], str], float], ...] = (
    (_subject, 15),
    (_several, 5),
    (_questions, 6),
    (_instructions, 16),
    (_exercises, 6),
    (stories.echo, 7),
    (stories.owners, 11),
    (stories.journey, 5),
    (stories.talk, 4),
    (stories.retold, 5),
    (stories.gifts, 4),
    (stories.words, 5),
    (stories.rude_talk, 5),
    (stories.right_and_wrong, 3),
    (stories.not_known, 3),
)
_MAKERS = tuple(maker for maker, _ in MIXTURE)
_ODDS = tuple(odds for _, odds in MIXTURE)
