"""Answers about words and kinds of things: opposites, plurals, what comes next, what a thing is."""

from __future__ import annotations

import re

from training.miniature import lexicon
from training.miniature.lexicon import word_set
from training.miniature.specs import ContainSpec
from training.miniature.text import Clause, Text

_SEQUENCES = (*(row for _, row in (*lexicon.SEQUENCES_TRAIN, *lexicon.SEQUENCES_EVALUATION)), lexicon.NUMBERS)
_FILLERS = word_set("and again then once more the word here it is i say so times")


def asserted(text: Text) -> frozenset[str]:
    """Words of clauses that claim something and are not denied."""
    return frozenset().union(*[clause.vocabulary for clause in asserting(text)])


def asserting(text: Text) -> list[Clause]:
    """Clauses that claim something and are not denied."""
    return [clause for clause in text.clauses if clause.affirms and clause.claims]


def marked(clause: Clause, x: str, y: str = "") -> str:
    """The clause with X for one word and Y for another, so that one pattern serves all words."""
    return " ".join(["X" if word == x else "Y" if word == y else word for word in clause.words])


def kind(spec: ContainSpec, text: Text) -> bool:
    kind, thing = spec["need"][0], spec["topic"][0]
    return not any(_BACKWARDS.search(marked(clause, kind, thing)) for clause in text.clauses)


_BACKWARDS = re.compile(r"^(?:a |an |the )?X (?:is|are|was) (?:a |an |the )?Y")


def opposite(spec: ContainSpec, text: Text) -> bool:
    allowed = {spec["need"][0], spec["topic"][0]}
    return not {w for w in asserted(text) if w in lexicon.OPPOSITE_OF} - allowed - {"close", "clean", "open", "near"}


def plural(spec: ContainSpec, text: Text) -> bool:
    plural, single = spec["need"][0], spec["topic"][0]
    others = {lexicon.plural(word) for word in lexicon.PLURALS.all} - {plural}
    if others & asserted(text):
        return False
    return not any(_MISCOUNTED.search(marked(clause, plural, single)) for clause in text.clauses)


_MISCOUNTED = re.compile(r"\b(?:one|a|an) X|\b(?:two|three|many|plural is) Y")


def successor(spec: ContainSpec, text: Text) -> bool:
    later, earlier = spec["need"][0], spec["topic"][0]
    row = next(row for row in _SEQUENCES if later in row and earlier in row)
    for clause in asserting(text):
        others = (clause.vocabulary & set(row)) - {later, earlier} - {"one", "may", "second"}
        if later in clause.vocabulary and others:
            return False
        if _WRONG_WAY.search(marked(clause, later, earlier)):
            return False
    return True


_WRONG_WAY = re.compile(
    r"\b(?:after|behind) (?:the \w+ |\w+ )?X|Y (?:\w+ )?(?:after|behind|follows)\b|X (?:\w+ )?before\b|\bbefore "
    r"(?:the \w+ )?Y|"
    r"X is followed\b"
)


def repeat(spec: ContainSpec, text: Text) -> bool:
    word = spec["need"][0]
    return text.words.count(word) == 3 and all(w == word or w in _FILLERS for w in text.words)
