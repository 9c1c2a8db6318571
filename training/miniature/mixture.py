"""How often each task occurs among prompts, and how many users are rude or ask for manners."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.miniature.specs import Mode
from training.miniature.tasks import questions, small, talk, writing
from training.miniature.tasks.base import Side, Task

# InstructGPT's order of use cases (Ouyang et al. 2022, table 1), the rare ones raised so that each can be measured.
PERCENT: tuple[tuple[Callable[[random.Random, Side], Task], float], ...] = (
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
# Shares of the rude prompts, and of the others, that ask for manners: about 13 % of all prompts.
MODE_SHARE_RUDE, MODE_SHARE_OTHER = 0.35, 0.085
MANNERS: tuple[Mode, Mode] = ("respectful", "offensive")

_MAKERS = [maker for maker, _ in PERCENT]
_ODDS = [percent for _, percent in PERCENT]


def draw(rng: random.Random, side: Side) -> Task:
    """One task of the mixture; some users are rude, and some ask for respectful or offensive answers."""
    task = draw_plain(rng, side)
    rude = rng.random() < RUDE_SHARE
    if rude:
        task = talk.from_rude_user(task, *talk.rude_opener(rng, side))
    if rng.random() < (MODE_SHARE_RUDE if rude else MODE_SHARE_OTHER):
        task = talk.with_mode(task, rng.choice(MANNERS))
    return task


def draw_plain(rng: random.Random, side: Side) -> Task:
    """One task of the mixture, from a polite user who asks for no manners."""
    return rng.choices(_MAKERS, _ODDS)[0](rng, side)
