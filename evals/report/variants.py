"""One task measured in several ways: with and without answered examples, as raw text and through the chat template."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from evals.suite import Metric

SHOTS, CHAT = re.compile(r"-(\d+)shot\b"), re.compile(r"-chat\b")


@dataclass(frozen=True)
class Variant:
    """How a task was put to a model: its name, answered examples before each item, the chat template."""

    task: str
    shots: int = 0
    chat: bool = False


@dataclass(frozen=True)
class Comparison:
    """Two metrics of one task that differ in one respect; what differs is the title of its figure."""

    title: str
    before: str
    after: str


def variant_of(task: str) -> Variant:
    """`hellaswag-5shot-chat` is `hellaswag` with five examples through the chat template."""
    shots, plain = 0, task
    match = SHOTS.search(plain)
    if match:
        shots, plain = int(match[1]), SHOTS.sub("", plain)
    chat = CHAT.search(plain) is not None
    return Variant(CHAT.sub("", plain), shots, chat)


def comparisons(metrics: dict[str, Metric]) -> list[Comparison]:
    """Pairs of measured metrics: without and with examples, as raw text and as a conversation.

    A task has one pair of each kind, for its first score that the gate requires, or that has a margin, or that has a
    direction.
    """
    measured: dict[tuple[str, str], dict[Variant, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, metric in metrics.items():
        suite, task, _ = key.split(".")
        if metric.better is not None:
            variant = variant_of(task)
            measured[suite, variant.task][variant].append(key)
    pairs: list[Comparison] = []
    for (_, task), variants in measured.items():
        for variant in sorted(variants, key=lambda v: (v.chat, v.shots)):
            pairs += _pairs(task, variant, variants, metrics)
    return pairs


def _pairs(
    task: str, variant: Variant, variants: dict[Variant, list[str]], metrics: dict[str, Metric]
) -> Iterable[Comparison]:
    """What the variant is compared with: itself without examples, itself as raw text."""
    others = []
    if variant.shots:
        form = ", through the chat template" if variant.chat else ""
        others.append((Variant(task, 0, variant.chat), f"Without and with {variant.shots} examples{form}"))
    if variant.chat:
        shots = f", {variant.shots} examples" if variant.shots else ""
        others.append((Variant(task, variant.shots, False), f"As raw text and through the chat template{shots}"))
    for other, title in others:
        scores = {key.rpartition(".")[2]: key for key in variants.get(other, ())}
        common = [key for key in variants[variant] if key.rpartition(".")[2] in scores]
        if common:
            after = max(common, key=lambda key: (metrics[key].required, metrics[key].margin is not None))
            yield Comparison(title, scores[after.rpartition(".")[2]], after)
