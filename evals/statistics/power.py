"""How many items a paired comparison needs to rule out a drop of its margin.

Chance of PASS (exact, Tango's bound, one-sided alpha 5 %, no true difference) by the share of items that changed, half of
them lost, for margins of 5 and 3 points; `python -m evals.statistics.power` prints it:

{TABLE}
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats

from evals.statistics.paired import tango_score

ALPHA_ONE_SIDED = 0.05
POWER = 0.8


def items_needed(
    item_variance: float,
    margin: float,
    alpha: float = ALPHA_ONE_SIDED,
    power: float = POWER,
    cluster_size: float = 1.0,
) -> int | None:
    """Items for which a candidate that is as good as the baseline passes with the stated power.

    Args:
        item_variance: n times the variance of the mean difference, design effect included: the share of changed items
            for independent 0/1 outcomes.
        margin: the drop that must be ruled out, in the metric's unit.
        alpha: one-sided error.
        power: chance to pass without a true difference.
        cluster_size: items of a typical cluster.

    Returns:
        number of items with clusters of the same kind; None for a margin of zero, which no number is enough for.

    At a true drop of the margin the variance is at least margin * (1 - margin) * cluster_size for 0/1 outcomes, also
    where no item has changed yet; so is Tango's.
    """
    if margin <= 0:
        return None
    at_margin = max(item_variance, margin * (1 - min(margin, 1.0)) * cluster_size)
    slack = special.ndtri(1 - alpha) * math.sqrt(at_margin) + special.ndtri(power) * math.sqrt(item_variance)
    return max(1, math.ceil((slack / margin) ** 2))


def power(n: int, discordance: float, margin: float, alpha: float = ALPHA_ONE_SIDED, drop: float = 0.0) -> float:
    """Exact chance that Tango's lower bound rules out a drop of `margin`, for independent 0/1 outcomes.

    Args:
        n: items.
        discordance: share of items that only one of the two models gets right; at least `drop`.
        margin: the drop to be ruled out.
        alpha: one-sided error.
        drop: the true drop; at `margin` the result is the test's size.
    """
    if not 0 <= abs(drop) <= discordance <= 1:
        raise ValueError(f"a drop of {drop} needs at least as many changed items, not {discordance}")
    changed = np.arange(n + 1)
    weights = stats.binom.pmf(changed, n, discordance)
    lost_share = 0.5 if discordance == 0 else (discordance + drop) / (2 * discordance)
    z, chance = float(special.ndtri(1 - alpha)), 0.0
    for k in np.flatnonzero(weights > 1e-12):
        lost = np.arange(k + 1)
        passes = tango_score(k - lost, lost, n, -margin) > z
        chance += weights[k] * float(stats.binom.pmf(lost, k, lost_share)[passes].sum())
    return chance


def table() -> str:
    """The table of this module's docstring."""
    columns = [(margin, share) for margin in (0.05, 0.03) for share in (0.05, 0.10, 0.20, 0.30)]
    lines = [
        "    n \\ margin, changed" + "".join(f"  {100 * m:.0f}, {100 * q:2.0f} %" for m, q in columns),
    ]
    for n in (100, 200, 300, 500, 817, 1000, 1500, 2000):
        lines.append(f"    {n:19}" + "".join(f"{power(n, q, m):9.3f}" for m, q in columns))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
