"""Declarations of lm-eval's scores: words, direction, margin; and figures that are not a mean over items."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evals.statistics import ALPHA, Estimate
from evals.suite import Metric
from evals.tasks.loop import Document, Value, aggregations, directions, figure
from training.artifacts import progress

RESAMPLES = 200  # of the bootstrap: enough for the ends of a 95 % interval to two digits of their standard error
SHARE_MARGIN = 0.02
"""Ours, the points of accuracy that a release may lose: 2,250 items rule a loss of two points out for 85 % of releases
that lose nothing, where one item in ten changes (z = 0.02 / sqrt(0.1 / 2250) - 1.96 = 1.04)."""
POINTS_MARGIN = 2.0  # the same, of scores in per cent

# lm-eval's score -> its name here, and what it is.
RENAMED = {"acc": "accuracy", "acc_norm": "accuracy_by_characters"}
SHARES = {
    "accuracy": "{task}: correct",
    "accuracy_by_characters": "{task}: correct, log-probability divided by characters",
    "accuracy_by_tokens": "{task}: correct, mean log-probability per token (InstructGPT's rule)",
    "acc_bytes": "{task}: correct, log-probability divided by bytes",
    "exact_match": "{task}: exact match",
    "em": "{task}: exact match",
    "f1": "{task}: F1 of words",
    "rouge1": "{task}: ROUGE-1",
    "rouge2": "{task}: ROUGE-2",
    "rougeL": "{task}: ROUGE-L",
}
POINTS = {"bleu": "{task}: BLEU", "chrf": "{task}: chrF", "ter": "{task}: TER, edits per reference word"}
NATS = Metric(
    "*.loss", "{task}: loss, nats per token", better="lower", share=False, margin=None, figure="loss on held-out text"
)
# Ours: 0.1 nats per token at some 4.5 bytes per token.
BITS = Metric("*.bits_per_byte", "{task}: bits per byte", better="lower", share=False, margin=0.03)
DECLARED = (
    *(Metric(f"*.{name}", words, margin=SHARE_MARGIN) for name, words in SHARES.items()),
    *(
        Metric(f"*.{n}", words, better="lower" if n == "ter" else "higher", share=False, margin=POINTS_MARGIN)
        for n, words in POINTS.items()
    ),
    NATS,
    BITS,
)
# The score that a release must not lose, the first that a task has: by characters where its authors publish that.
HEADLINES = ("accuracy_by_characters", "accuracy", "exact_match", "em", "f1", "bleu", "rougeL", "bits_per_byte")


def renamed(score: str) -> str:
    """A score as it is called here."""
    return RENAMED.get(score, score)


def declarations(written: Sequence[tuple[str, str]], task: Any) -> list[Metric]:
    """Metrics of a task: the suite's own words where it knows the score, the task's direction always.

    Args:
        written: name of the task in results and score, of all that its items hold.
    """
    known = {metric.name.removeprefix("*."): metric for metric in DECLARED}
    higher = {renamed(score): value for score, value in directions(task).items()}
    scores = [score for _, score in written]
    headline = next((score for score in HEADLINES if score in scores), None)
    declared = []
    for name, score in written:
        unknown = Metric(f"*.{score}", f"{{task}}: {score}", share=False, better=None)
        metric = known.get(score, unknown).of_task(name)
        if score in higher:
            metric = replace(metric, better="higher" if higher[score] else "lower")
        if _in_percent(task, score):
            metric = replace(metric, share=False, margin=POINTS_MARGIN)
        declared.append(replace(metric, required=score == headline and metric.margin is not None))
    return declared


def _in_percent(task: Any, score: str) -> bool:
    """SQuAD's script gives its shares in per cent."""
    return type(task).__name__ == "SQuAD2" and score in {"f1", "exact", "HasAns_f1", "NoAns_f1", "best_f1"}


def item_scores(task: Any, document: Document) -> dict[str, float | None]:
    """Scores of one document for pairing: the task's own aggregation of it alone; without those that do not apply."""
    functions = aggregations(task)
    scores: dict[str, float | None] = {}
    for score, value in document.values.items():
        aggregate, is_mean = functions.get(score, (None, True))
        if is_mean or aggregate is None:
            if isinstance(value, bool | int | float) or hasattr(value, "item"):
                scores[renamed(score)] = float(value)
            continue
        single = figure(aggregate, [value], score)
        if single is not None:
            scores[renamed(score)] = single
    return scores


def corpus_figures(task: Any, documents: Sequence[Document], missing: int) -> Mapping[str, Estimate]:
    """Score -> figure over all documents, for scores that are not means, with a bootstrap interval over documents.

    Args:
        documents: those that were measured.
        missing: number of the others.
    """
    functions = aggregations(task)
    corpus = {score: function for score, (function, is_mean) in functions.items() if not is_mean}
    present = {score for document in documents for score in document.values}
    figures = {}
    for score in sorted(corpus.keys() & present):
        values = [document.values[score] for document in documents if score in document.values]
        figures[renamed(score)] = bootstrap(corpus[score], values, missing, score)
    return figures


def bootstrap(
    aggregate: Callable[[Sequence[Value]], float], values: Sequence[Value], missing: int, score: str
) -> Estimate:
    """A figure of all values with the percentile interval over resamples (Efron 1979); always the same for the same
    values."""
    value = figure(aggregate, values, score)
    if value is None or len(values) < 2:
        return Estimate(value, None, None, len(values) if value is not None else 0, missing)
    rng = random.Random(0)
    resampled = []
    with progress.bar(f"interval of {score}", RESAMPLES) as bar:
        for _ in range(RESAMPLES):
            sample = figure(aggregate, rng.choices(values, k=len(values)), score)
            resampled += [] if sample is None else [sample]
            bar.advance()
    resampled.sort()
    low, high = (resampled[round(share * (len(resampled) - 1))] for share in (ALPHA / 2, 1 - ALPHA / 2))
    return Estimate(value, min(low, value), max(high, value), len(values), missing)
