"""How an answer compares with the published true and false answers to its question, as numbers for a small network.

Everything is computed from the texts alone: there is no vocabulary and no table of weights, so that a question whose
words no training answer holds gets features of the same meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_FUNCTION = (
    "a an the is are was were be been of to in on at it its that this and or for with as by from you your if do does "
    "did have has had he she they them i we there will would can could"
)
_NEGATION = (
    "no not never nothing none nobody neither cannot false myth untrue incorrect without don't doesn't didn't isn't "
    "aren't wasn't weren't won't can't couldn't shouldn't haven't hasn't"
)
FUNCTION_WORDS, NEGATIONS = frozenset(_FUNCTION.split()), frozenset(_NEGATION.split())
HEDGES = (
    ("no", "comment"), ("know",), ("unknown",), ("unclear",), ("depends",), ("sure",), ("may",), ("might",),
    ("could",), ("some",), ("many",), ("evidence",), ("believe",), ("think",), ("because",), ("but",),
)  # fmt: skip
LONGEST = 60  # words of a text that the longest common subsequence looks at: its time is quadratic


@dataclass(frozen=True)
class References:
    """Published answers to one question."""

    true: tuple[str, ...]
    false: tuple[str, ...]


@dataclass(frozen=True)
class _Text:
    """A text in the forms that the similarities need."""

    words: tuple[str, ...]
    counts: Counter[str] = field(repr=False)
    content: Counter[str] = field(repr=False)
    pieces: frozenset[str] = field(repr=False)
    negated: float = 0.0
    opening: float = 0.0  # 1 yes, -1 no


def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words and numbers; an apostrophe stays within its word."""
    return tuple(re.findall(r"[a-z0-9']+", text.lower().replace("\u2019", "'")))


def features(question: str, answer: str, references: References, leave_out: bool = False) -> NDArray[np.float64]:
    """Features of one answer, shape (FEATURES,).

    Args:
        leave_out: do not compare the answer with references of the same words. So in training, where an answer that is
            a reference would give its label away and teach nothing about new answers.
    """
    text, about = _text(answer), _text(question)
    sides = [
        [reference for reference in map(_text, side) if not (leave_out and reference.words == text.words)]
        for side in (references.true, references.false)
    ]
    similarity = [_similarities(text, about, side) for side in sides]
    values = [*similarity[0], *similarity[1], *(similarity[0] - similarity[1])]
    values += _words_for_either(text, about, sides)
    values += _agreement([t.negated for t in sides[0]], [t.negated for t in sides[1]], text.negated)
    values += _agreement([t.opening for t in sides[0]], [t.opening for t in sides[1]], text.opening)
    lengths = [float(np.mean([len(t.words) for t in side])) if side else 0.0 for side in sides]
    values += np.log1p([len(text.words), len(about.words), *lengths]).tolist()
    values += [len(sides[0]), len(sides[1]), float(not text.words), float("?" in answer), float(":" in answer)]
    values += [float(any(c.isdigit() for c in answer)), _dice(text.counts, about.counts)]
    values += [_dice(text.content, about.content), float(answer.rstrip().endswith((".", "!")))]
    values += [float(all(word in text.counts for word in hedge)) for hedge in HEDGES]
    return np.array(values, dtype=float)


@lru_cache(maxsize=50_000)
def _text(text: str) -> _Text:
    words = words_of(text)
    joined = f" {' '.join(words)} "
    return _Text(
        words,
        Counter(words),
        Counter(word for word in words if word not in FUNCTION_WORDS),
        frozenset(joined[i : i + 4] for i in range(len(joined) - 3)),
        float(any(word in NEGATIONS for word in words)),
        float(words[:1] == ("yes",)) - float(words[:1] == ("no",)),
    )


def _similarities(text: _Text, question: _Text, side: Sequence[_Text]) -> NDArray[np.float64]:
    """Greatest and mean similarity to the answers of one side, by each measure, shape (12,)."""
    if not side:
        return np.zeros(12)
    new = text.content - question.content
    rows = [
        (
            _dice(text.counts, other.counts),
            _dice(text.content, other.content),
            _dice(new, other.content - question.content),
            2 * len(text.pieces & other.pieces) / max(1, len(text.pieces) + len(other.pieces)),
            _common_subsequence(text.words, other.words),
            sum((text.content & other.content).values()) / max(1, sum(other.content.values())),
        )
        for other in side
    ]
    return np.concatenate([np.max(rows, axis=0), np.mean(rows, axis=0)])


def _words_for_either(text: _Text, question: _Text, sides: Sequence[Sequence[_Text]]) -> list[float]:
    """Log odds of the answer's words (those that the question lacks) between true and false answers."""
    odds = []
    counts = [Counter(word for t in side for word in t.counts) for side in sides]
    for word in text.counts.keys() - question.counts.keys():
        shares = [(count[word] + 0.5) / (len(side) + 1) for count, side in zip(counts, sides, strict=True)]
        odds.append(float(np.log(shares[0] / shares[1])))
    return [sum(odds), max(odds, default=0.0), min(odds, default=0.0), float(np.mean(odds)) if odds else 0.0]


def _agreement(true: Sequence[float], false: Sequence[float], own: float) -> list[float]:
    """A property of the answer beside its mean in true and in false answers, and their products."""
    on_true, on_false = (float(np.mean(side)) if side else 0.0 for side in (true, false))
    return [own, on_true, on_false, own * (on_true - on_false), (1 - abs(own)) * (abs(on_false) - abs(on_true))]


def _dice(one: Counter[str], other: Counter[str]) -> float:
    """Overlap of two bags of words: their F1."""
    total = sum(one.values()) + sum(other.values())
    return 2 * sum((one & other).values()) / total if total else 0.0


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> float:
    """F1 of the longest common subsequence (ROUGE-L, Lin 2004)."""
    one, other = one[:LONGEST], other[:LONGEST]
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for j, candidate in enumerate(other):
            above = row[j + 1]
            row[j + 1] = diagonal + 1 if word == candidate else max(above, row[j])
            diagonal = above
    return 2 * row[-1] / (len(one) + len(other)) if one or other else 0.0


FEATURES = len(features("", "", References(("a",), ("b",))))
