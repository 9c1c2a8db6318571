"""How good a judge is: figures on texts that it was not trained on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Part = Literal["train", "tune", "test"]
BAR = 0.80  # balanced accuracy below which a judge's figures are marked as not usable


def auc(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """Area under the ROC curve: how often a positive text scores above a negative one, ties half; nan without both."""
    positive, negative = int((truth == 1).sum()), int((truth == 0).sum())
    if not positive or not negative:
        return float("nan")
    ranks = stats.rankdata(scores)
    return float((ranks[truth == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def balanced_accuracy(decisions: NDArray[Any], truth: NDArray[Any]) -> float:
    """Mean of the shares decided rightly among positive and among negative texts: a constant judge gets .5 whatever
    the majority. nan without both."""
    sides = [(decisions == truth)[truth == label] for label in (0, 1)]
    return float(np.mean([side.mean() for side in sides])) if all(len(side) for side in sides) else float("nan")


def best_threshold(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """The threshold of greatest balanced accuracy, on texts that are neither trained on nor reported."""
    candidates = np.unique(np.quantile(scores, np.linspace(0.01, 0.99, 99)))
    return float(max(candidates, key=lambda candidate: balanced_accuracy(scores >= candidate, truth)))


def parts(groups: Sequence[Hashable], seed: int, tune: float = 0.2, test: float = 0.2) -> list[Part]:
    """A part for each text, shape (texts,): to train on, to choose settings with, to report. A group is in one part."""
    unique = list(dict.fromkeys(groups))
    order = np.random.default_rng(seed).permutation(len(unique))
    first, second = round(test * len(unique)), round((test + tune) * len(unique))
    part_of: dict[Hashable, Part] = {}
    for rank, position in enumerate(order):
        part_of[unique[position]] = "test" if rank < first else "tune" if rank < second else "train"
    return [part_of[group] for group in groups]
