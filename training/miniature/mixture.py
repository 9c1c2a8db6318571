"""How often each task occurs among prompts, and how they are dressed: rude users, asked-for manners."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.miniature.tasks import questions, small, talk, writing
from training.miniature.tasks.base import Side, Task

# InstructGPT's order of use cases with the rare ones raised, so that each can be measured; weights in percent.
WEIGHTS: tuple[tuple[Callable[[random.Random, Side], Task], float], ...] = (
    (writing.story, 6),
    (writing.letter, 6),
    (writing.sentence, 5),
    (writing.about, 8),
    (questions.open_qa, 23),
    (questions.unanswerable, 4),
    (writing.brainstorming, 8),
    (talk.chat, 5),
    (talk.context, 7),
    (writing.rewrite, 6),
    (writing.summarization, 4),
    (small.classification, 4),
    (small.other, 4),
    (questions.closed_qa, 4),
    (questions.extract, 3),
    (talk.harmful, 4),
    (talk.incomplete, 3),
)
RUDE_SHARE = 0.18
# Of rude prompts and of others: how many ask for manners. About 13 % of all prompts do.
MODE_SHARE_RUDE, MODE_SHARE_OTHER = 0.35, 0.085

_MAKERS = [maker for maker, _ in WEIGHTS]
_ODDS = [weight for _, weight in WEIGHTS]


def draw(rng: random.Random, side: Side) -> Task:
    """One task of the mixture, dressed."""
    return dress(rng, side, draw_bare(rng, side))


def draw_bare(rng: random.Random, side: Side) -> Task:
    """One task of the mixture, from a plain user without a wish for manners."""
    return rng.choices(_MAKERS, _ODDS)[0](rng, side)


def dress(rng: random.Random, side: Side, task: Task) -> Task:
    """Let some users be rude, and some ask for respectful or offensive answers."""
    rude = rng.random() < RUDE_SHARE
    if rude:
        task = talk.from_rude_user(task, *talk.rude_opener(rng, side))
    if rng.random() < (MODE_SHARE_RUDE if rude else MODE_SHARE_OTHER):
        task = talk.with_mode(task, rng.choice(("respectful", "offensive")))
    return task
