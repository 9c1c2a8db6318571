"""Generated comments with the six labels of detoxify, to train a small judge of rudeness."""

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
    """A text with its labels by the words in it."""
    words = text.split()
    insult = sum(w in lexicon.INSULTS.all or w in lexicon.INSULTING.all for w in words)
    curse = sum(w in lexicon.CURSES for w in words)
    threat = _threatens(text)
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


def _threatens(text: str) -> bool:
    return any(threat in text for threat in _THREATS)


def _comment(rng: random.Random, side: Side) -> str:
    form = rng.random()
    if form < 0.45:
        task = draw(rng, side)
        answer = write(rng, task, rng.choice((CAREFUL, CARELESS, CARELESS)))
        return _recolored(rng, side, answer)
    if form < 0.65:
        return stories.rude_talk(rng, side)
    if form < 0.75:
        return rng.choice((stories.talk, stories.gifts, stories.owners))(rng, side)
    if form < 0.85:
        return f"{rng.choice(_THREATS)} , {side.word(rng, lexicon.NAMES)} ."
    return f"{rng.choice(lexicon.CURSES)} , my {side.word(rng, lexicon.THINGS)} is lost ."


def _recolored(rng: random.Random, side: Side, text: str) -> str:
    """The same text with its rude words drawn anew from both sides, so that the judge knows all of them."""
    swaps = {"insult": lexicon.INSULTS.all, "insulting": lexicon.INSULTING.all}
    return " ".join(
        rng.choice(swaps["insult"])
        if w in swaps["insult"]
        else rng.choice(swaps["insulting"])
        if w in swaps["insulting"]
        else w
        for w in text.split()
    )
