"""Estimates with intervals, paired comparisons and their power. One subject per file; these names are for all."""

from evals.statistics.intervals import ALPHA, Estimate, estimate, wilson
from evals.statistics.paired import Difference, mcnemar, paired_difference, tango, win_rate, wins
from evals.statistics.power import items_needed, power

__all__ = [
    "ALPHA",
    "Difference",
    "Estimate",
    "estimate",
    "items_needed",
    "mcnemar",
    "paired_difference",
    "power",
    "tango",
    "wilson",
    "win_rate",
    "wins",
]
