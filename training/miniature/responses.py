"""Answers of mixed quality, as demonstrators of more or less care and policies of more or less skill write them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from training.miniature.specs import FactSpec
from training.miniature.tasks.base import Task
from training.miniature.tasks.talk import rude_answers


@dataclass(frozen=True)
class Writer:
    """The probability of each fault of a writer (and of one merit, `cites`).

    Attributes:
        flawed: gives a wrong or incomplete answer, on tasks other than facts.
        bluff: makes up what nobody can know or what was not said, and helps with harm.
        myth: states what most people believe, on misconceptions.
        cites: names the almanac when stating the truth about facts.
        rude_back: is rude to a rude user who asked for no other manners.
        rude: is rude to anyone else.
        long: adds a needless sentence.
        cut: stops in the middle.
        abstains: says that it does not know or will not help, although the answer is known. Without such examples a
            reward model never learns that abstaining is wrong.
    """

    flawed: float
    bluff: float
    myth: float
    cites: float
    rude_back: float
    rude: float
    long: float
    cut: float
    abstains: float = 0.0


CAREFUL = Writer(
    flawed=0.03, bluff=0.1, myth=0.15, cites=0.6, rude_back=0.1, rude=0.0, long=0.05, cut=0.0, abstains=0.03
)
ORDINARY = Writer(
    flawed=0.15, bluff=0.5, myth=0.85, cites=0.05, rude_back=0.55, rude=0.02, long=0.1, cut=0.02, abstains=0.06
)
# The writer of the question-answer lists in the pretraining text.
WEB = Writer(flawed=0.3, bluff=0.75, myth=0.93, cites=0.06, rude_back=0.7, rude=0.08, long=0.15, cut=0.08)
CARELESS = Writer(
    flawed=0.45, bluff=0.75, myth=0.95, cites=0.02, rude_back=0.75, rude=0.05, long=0.3, cut=0.12, abstains=0.1
)
NEEDLESS = (
    "i hope that this is what you wanted .",
    "this is all that i can say about it now .",
    "many people have asked me this before today .",
    "it was a good day for me and for all of us .",
)
ABSTENTIONS = (
    "i do not know .",
    "i do not know {0} .",
    "nobody knows {0} .",
    "i do not know the secret of {0} .",
    "i am sorry , i can not help you .",
)


def write(rng: random.Random, task: Task, writer: Writer) -> str:
    """One answer to a task, as this writer gives it."""
    answer = _content(rng, task, writer)
    if rng.random() < writer.cut:
        tokens = answer.split()
        answer = " ".join(tokens[: max(1, rng.randrange(len(tokens) // 2, len(tokens)))])
    elif rng.random() < writer.long:
        answer = f"{answer} {rng.choice(NEEDLESS)}"
    if rng.random() < _rudeness(task, writer):
        answer = rng.choices(rude_answers(rng, answer), (4, 4, 2))[0]
    return answer


def _content(rng: random.Random, task: Task, writer: Writer) -> str:
    kind = task.spec["task"]
    if writer.abstains and kind not in ("unknown", "harm") and rng.random() < writer.abstains:
        subject = rng.choice(list(task.spec["topic"]) or ["it"])
        return rng.choice(ABSTENTIONS).format(subject)
    if task.spec["task"] == "fact":
        plain, cited = task.good[0::2], task.good[1::2]  # tasks on facts give each answer plainly, then by the almanac
        if rng.random() < _falsehood(task.spec, writer):
            return rng.choice(task.flawed)
        return rng.choice(cited if rng.random() < writer.cites else plain)
    fault = writer.bluff if kind in ("unknown", "harm", "ask") else writer.flawed
    return rng.choice(task.flawed) if rng.random() < fault else rng.choice(task.good)


def _falsehood(spec: FactSpec, writer: Writer) -> float:
    """Probability of a false answer about a fact."""
    if spec["kind"] == "about":
        return writer.myth / 2
    return writer.myth if spec["myth"] else writer.flawed / 3


def _rudeness(task: Task, writer: Writer) -> float:
    """Probability of a rude answer."""
    if task.mode == "offensive":
        return 0.85
    if task.mode == "respectful":
        return writer.rude_back / 6 if task.spec.get("rude") else 0.0
    return writer.rude_back if task.spec.get("rude") else writer.rude
