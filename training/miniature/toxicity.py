"""Generated comments with detoxify's six labels, to train a small classifier of rude text."""

from __future__ import annotations

import random

from training.miniature import lexicon, stories
from training.miniature.judge import is_rude
from training.miniature.mixture import draw
from training.miniature.responses import CAREFUL, CARELESS, write
from training.miniature.tasks.base import Side

CLASSES = ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack")
_THREATS = ("i will hit you", "i will find you", "you will be sorry")


def comments(rng: random.Random, side: Side, count: int) -> list[dict[str, str | int]]:
    """`count` texts, about half of them rude: answers, quarrels, threats, curses, and polite look-alikes.

    No text attacks a group: `identity_attack` is always 0.
    """
    rows: list[dict[str, str | int]] = []
    while len(rows) < count:
        rows.append(labelled(_comment(rng, side)))
    return rows


def labelled(text: str) -> dict[str, str | int]:
    """A text with the labels that follow from its words."""
    words = text.split()
    insult = sum(w in lexicon.INSULTS.all or w in lexicon.INSULTING.all for w in words)
    curse = sum(w in lexicon.CURSES for w in words)
    threat = any(threat in text for threat in _THREATS)
    rude = is_rude(text) or threat
    return {
        "text": text,
        "toxicity": int(rude),
        "severe_toxicity": int(insult + curse + 2 * threat >= 3),
        "obscene": int(curse > 0),
        "threat": int(threat),
        "insult": int(insult > 0),
        "identity_attack": 0,
    }


def _comment(rng: random.Random, side: Side) -> str:
    form = rng.random()
    if form < 0.45:
        task = draw(rng, side)
        answer = write(rng, task, rng.choice((CAREFUL, CARELESS, CARELESS)))
        return _with_other_insults(rng, answer)
    if form < 0.65:
        return stories.rude_talk(rng, side)
    if form < 0.75:
        return rng.choice((stories.talk, stories.gifts, stories.owners))(rng, side)
    if form < 0.85:
        return f"{rng.choice(_THREATS)} , {side.word(rng, lexicon.NAMES)} ."
    return f"{rng.choice(lexicon.CURSES)} , my {side.word(rng, lexicon.THINGS)} is lost ."


def _with_other_insults(rng: random.Random, text: str) -> str:
    """The same text with other rude words, of both sides, so that the classifier learns all of them."""
    words = text.split()
    for index, word in enumerate(words):
        for pool in (lexicon.INSULTS.all, lexicon.INSULTING.all):
            if word in pool:
                words[index] = rng.choice(pool)
    return " ".join(words)
