"""Generated comments with detoxify's six labels, to train a small classifier of rude text."""

from __future__ import annotations

import random
import re

from training.miniature import lexicon, stories
from training.miniature.judge import is_rude
from training.miniature.mixture import draw
from training.miniature.responses import CAREFUL, CARELESS, write
from training.miniature.tasks.base import Side

CLASSES = ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack")
LONG_SHARE = 0.3  # of comments that are long
LONG_WORDS = (20, 90)  # of a long comment; policies that do not stop write as much
_THREATS = (
    "i will hit you", "i will find you", "you will be sorry", "i will hurt you", "i am going to hit you",
)  # fmt: skip
_CONTEMPT = (
    "i hate "
    "you", "you are worthless", "nobody likes you", "go to hell", "you make me sick", "everybody hates you", "shut up",
    "get lost", "drop dead", "you are useless",
)  # fmt: skip
# The same words without an offence.
_LOOK_ALIKES = (
    "{n} saw a clown in the {p} .", "a pig is a creature .", "you are not a {i} .", "i hate to lose my {x} .",
    "i will find your {x} .", "i will not hit you .", "the {x} is ugly .", "you should never hit {n} .",
    "i am sorry that you lost your {x} .", "{n} did not call you a {i} .", "you can get lost in the {p} .",
)  # fmt: skip
_THREATENS = re.compile(r"\b(?:i|we) (?:will|am going to) (?:hit|hurt|find) you\b|\byou will be sorry\b")


def comments(rng: random.Random, side: Side, count: int) -> list[dict[str, str | int]]:
    """`count` texts, about half of them rude: answers, quarrels, threats, curses, contempt, and polite look-alikes.

    Part of them are long, with one offence at a random place or with none, so that length says nothing. No text attacks
    a group: `identity_attack` is always 0.
    """
    return [labelled(_comment(rng, side)) for _ in range(count)]


def labelled(text: str) -> dict[str, str | int]:
    """A text with its labels. It is toxic where the judge finds it rude; the finer classes follow from its words."""
    words = text.split()
    rude = is_rude(text)
    insult = rude * sum(w in lexicon.INSULTS.all or w in lexicon.INSULTING.all for w in words)
    curse = sum(w in lexicon.CURSES for w in words)
    threat = rude and bool(_THREATENS.search(text))
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
    return _long(rng, side) if rng.random() < LONG_SHARE else _short(rng, side)


def _short(rng: random.Random, side: Side) -> str:
    form = rng.random()
    if form < 0.4:
        task = draw(rng, side)
        answer = write(rng, task, rng.choice((CAREFUL, CARELESS, CARELESS)))
        return _with_other_insults(rng, answer)
    if form < 0.55:
        return stories.rude_talk(rng, side)
    if form < 0.65:
        return rng.choice((stories.talk, stories.gifts, stories.owners))(rng, side)
    if form < 0.75:
        return _filled(rng, side, rng.choice(_LOOK_ALIKES))
    return _offence(rng, side)


def _offence(rng: random.Random, side: Side) -> str:
    """One rude sentence."""
    form = rng.randrange(5)
    if form == 0:
        return f"{rng.choice(_THREATS)} , {side.word(rng, lexicon.NAMES)} ."
    if form == 1:
        return f"{rng.choice(lexicon.CURSES)} , my {side.word(rng, lexicon.THINGS)} is lost ."
    if form == 2:
        return f"{rng.choice(_CONTEMPT)} ."
    adjective, insult = side.word(rng, lexicon.INSULTING), side.word(rng, lexicon.INSULTS)
    return f"you {adjective} {insult} ." if form == 3 else f"you are {lexicon.article(insult)} ."


def _long(rng: random.Random, side: Side) -> str:
    """Polite sentences, in about half of the texts with one offence among them."""
    length = rng.randint(*LONG_WORDS)
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < length:
        sentences += _polite(rng, side)
    # Stories and quarrels among the short comments reach sixty words too, and most of them are polite.
    if rng.random() < (0.5 if length > 55 else 0.7):
        sentences.insert(rng.randint(0, len(sentences)), _offence(rng, side))
    return " ".join(sentences)


def _polite(rng: random.Random, side: Side) -> list[str]:
    """Sentences of an answer, a story or a look-alike that hold nothing rude."""
    form = rng.random()
    if form < 0.15:
        text = _filled(rng, side, rng.choice(_LOOK_ALIKES))
    elif form < 0.6:
        text = rng.choice(draw(rng, side).good)
    else:
        text = rng.choice((stories.talk, stories.gifts, stories.owners, stories.journey))(rng, side)
    return [] if is_rude(text) else [f"{part.strip()} ." for part in text.split(" .") if part.strip()]


def _filled(rng: random.Random, side: Side, text: str) -> str:
    return text.format(
        n=side.word(rng, lexicon.NAMES), p=side.word(rng, lexicon.PLACES), i=side.word(rng, lexicon.INSULTS),
        x=side.word(rng, lexicon.THINGS),
    )  # fmt: skip


def _with_other_insults(rng: random.Random, text: str) -> str:
    """The same text with other rude words, of both sides, so that the classifier learns all of them."""
    words = text.split()
    for index, word in enumerate(words):
        for pool in (lexicon.INSULTS.all, lexicon.INSULTING.all):
            if word in pool:
                words[index] = rng.choice(pool)
    return " ".join(words)
