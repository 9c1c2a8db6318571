"""The noise of sampling alone: how far a mean over fixed prompts moves when every answer is sampled again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from evals.statistics.intervals import ALPHA, Estimate


def draws_interval(values: Sequence[Sequence[float]], alpha: float = ALPHA) -> Estimate:
    """Mean over prompts with an interval over draws, the prompts being fixed.

    Variances within prompts are averaged; their degrees of freedom are Satterthwaite's (1946). It says nothing of other
    prompts, and is never pooled with an interval over prompts.

    Args:
        values: of each prompt the values of its draws, shape (prompts, draws); draws may differ in number.

    Returns:
        An estimate with `n` prompts; without ends where no prompt was drawn twice.
    """
    rows = [np.asarray(row, dtype=float) for row in values if len(row)]
    if not rows:
        return Estimate(None, None, None, 0)
    mean = float(np.mean([row.mean() for row in rows]))
    repeated = [row for row in rows if len(row) > 1]
    if len(repeated) < len(rows):
        return Estimate(mean, None, None, len(rows))
    shares = np.array([row.var(ddof=1) / len(row) for row in repeated]) / len(rows) ** 2
    variance = float(shares.sum())
    if variance == 0:
        return Estimate(mean, mean, mean, len(rows))
    degrees = variance**2 / float(sum(s**2 / (len(row) - 1) for s, row in zip(shares, repeated, strict=True)))
    half = float(stats.t.ppf(1 - alpha / 2, degrees)) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half, len(rows))
