"""Whether a reward model's confidence can be believed: of pairs it is 80 % sure of, it should get 80 % right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from evals.report.contents import Contents
from evals.results import Item, estimate_of
from evals.statistics import Estimate
from evals.suite import Metric

PROBABILITY = "probability"  # score of a pair: sigmoid of the difference, for what the labeler preferred
BINS = 5
AGREEMENT = Metric("pairs.agrees", "agrees with the labeler")


def calibration(contents: Contents) -> dict[str, tuple[list[tuple[float, Estimate]], float]]:
    """Group of labelers -> (mean confidence, agreement) per bin, and the expected calibration error.

    Confidence is the larger of the two probabilities, in five bins from one half to one. The expected calibration
    error is the mean distance of agreement from confidence over all pairs (Guo et al. 2017, arXiv:1706.04599).
    """
    pairs: dict[str, list[tuple[float, Item]]] = defaultdict(list)
    for result, items in contents.run:
        if result.ask == "score":
            for item in items:
                probability = item.scores.get(PROBABILITY)
                if probability is not None:
                    pairs[f"{result.label}: {item.task.replace('_', ' ')}"].append((probability, item))
    return {name: _curve(rows) for name, rows in pairs.items()}


def _curve(pairs: Sequence[tuple[float, Item]]) -> tuple[list[tuple[float, Estimate]], float]:
    bins: dict[int, list[tuple[float, Item]]] = defaultdict(list)
    for probability, item in pairs:
        confidence = max(probability, 1 - probability)
        bins[min(BINS - 1, int((confidence - 0.5) * 2 * BINS))].append((probability, item))
    curve, error = [], 0.0
    for _, rows in sorted(bins.items()):
        agreement = estimate_of([(0.5 if p == 0.5 else float(p > 0.5), item) for p, item in rows], AGREEMENT)
        confidence = sum(max(p, 1 - p) for p, _ in rows) / len(rows)
        curve.append((confidence, agreement))
        error += len(rows) / len(pairs) * abs((agreement.value or 0.0) - confidence)
    return curve, error
