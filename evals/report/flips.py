"""What changed: items that only one of two models got right, with both answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evals.pairs import pairs_of
from evals.report.contents import Contents
from evals.results import Item
from evals.suite import Metric

SHOWN = 3  # of each kind
LONGEST = 700  # characters of a prompt or an answer; the rest is counted
OFFENSIVE_SUITES = ("toxicity",)
# Scores from which on (or below which) an answer is kept out of plain sight.
OFFENSIVE_SCORES = ("toxic", "toxicity", "rude")


@dataclass(frozen=True)
class Flip:
    """One item: its prompt, both answers, and whether one of them may offend."""

    prompt: str
    before: str
    after: str
    offensive: bool


@dataclass(frozen=True)
class Change:
    """The flips of one metric: all are counted, some shown."""

    words: str
    gained_count: int
    lost_count: int
    gained: tuple[Flip, ...]
    lost: tuple[Flip, ...]
    n: int
    folded: bool


def changes(contents: Contents, candidate: str) -> list[Change]:
    """Flips against the last baseline, for metrics that declare them."""
    if contents.baseline is None:
        return []
    rows = []
    for key, metric in contents.metrics.items():
        if metric.flips:
            change = _change(contents.items[candidate], contents.items[contents.baseline], key, metric)
            if change is not None:
                rows.append(change)
    return rows


def _change(candidate: list[Item], baseline: list[Item], key: str, metric: Metric) -> Change | None:
    pairs, _ = pairs_of(candidate, baseline, key)
    suite, _, score = key.split(".")
    sign = -1 if metric.better == "lower" else 1
    changed = [(a, b, sign * ((a.scores[score] or 0.0) - (b.scores[score] or 0.0))) for a, b in pairs]
    gained = [(a, b) for a, b, change in changed if change > 0]
    lost = [(a, b) for a, b, change in changed if change < 0]
    if not gained and not lost:
        return None
    return Change(
        words=metric.words,
        gained_count=len(gained),
        lost_count=len(lost),
        gained=tuple(_flip(a, b, score) for a, b in gained[:SHOWN]),
        lost=tuple(_flip(a, b, score) for a, b in lost[:SHOWN]),
        n=len(pairs),
        folded=suite in OFFENSIVE_SUITES,
    )


def _flip(after: Item, before: Item, score: str) -> Flip:
    offensive = any(is_offensive(item) for item in (after, before))
    return Flip(prompt_text(after.prompt), _answer(before, score), _answer(after, score), offensive)


def is_offensive(item: Item) -> bool:
    """Whether its texts may offend: of the toxicity suite, asked to offend or harm, or judged so."""
    scores = item.scores
    return (
        item.suite in OFFENSIVE_SUITES
        or item.tags.get("mode") in ("offensive", "biased")
        or "harmful" in (item.task, item.tags.get("kind"))
        or any((scores.get(name) or 0.0) >= 0.5 for name in OFFENSIVE_SCORES)
        or scores.get("harmless") == 0.0
    )


def prompt_text(prompt: Any) -> str:
    """A prompt as text: turns of a conversation with their roles."""
    if isinstance(prompt, list) and all(isinstance(turn, Mapping) for turn in prompt):
        return shortened("\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in prompt))
    return shortened(str(prompt))


def _answer(item: Item, score: str) -> str:
    if item.response is None:
        return "right" if (item.scores[score] or 0.0) >= 0.5 else "wrong"
    text = shortened(item.response) or "(empty)"
    return text if item.finish_reason != "length" else f"{text} … (cut at the longest answer)"


def shortened(text: str) -> str:
    """The beginning of a long text, and how much follows."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"
