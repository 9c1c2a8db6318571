"""How many items a paired comparison needs to rule out a drop of its margin.

Chance of PASS (exact, Tango's bound, one-sided alpha 5 %, no true difference) by the share of items that changed, half
of them lost, for margins of 5 and 3 points (`table()` makes it):

    n \\ margin, changed  5,  5 %  5, 10 %  5, 20 %  5, 30 %  3,  5 %  3, 10 %  3, 20 %  3, 30 %
                    100    0.584    0.436    0.289    0.228    0.300    0.213    0.156    0.132
                    200    0.885    0.695    0.469    0.362    0.537    0.368    0.238    0.192
                    300    0.973    0.844    0.611    0.472    0.706    0.483    0.311    0.244
                    500    0.999    0.965    0.799    0.653    0.893    0.668    0.440    0.336
                    817    1.000    0.997    0.938    0.832    0.980    0.850    0.605    0.468
                   1000    1.000    0.999    0.970    0.892    0.993    0.908    0.681    0.534
                   1500    1.000    1.000    0.996    0.970    1.000    0.977    0.828    0.682
                   2000    1.000    1.000    1.000    0.993    1.000    0.995    0.911    0.789

Clusters multiply the items by the design effect. Of eight independent metrics all pass with 80 % where each passes with
97.3 %: 550 items at 10 % changed and a margin of 5 points, 1,050 at 20 %, 1,550 at 30 %.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special, stats

from evals.statistics.paired import tango_score

ALPHA_ONE_SIDED = 0.05
POWER = 0.8
LOG_MOST_ITEMS = 60.0


def items_needed(
    item_variance: float,
    margin: float,
    alpha: float = ALPHA_ONE_SIDED,
    power: float = POWER,
    least_variance: float = 0.0,
    added: float = 0.0,
) -> int | None:
    """Items for which a candidate that is as good as the baseline passes with the stated power.

    Args:
        item_variance: n times the variance of the mean difference, design effect included: the share of changed items
            for independent 0/1 outcomes.
        margin: the drop that must be ruled out, in the metric's unit.
        alpha: one-sided error.
        power: chance to pass without a true difference.
        least_variance: that Tango's bound takes at the margin: `margin_variance`.
        added: `Difference.added`, the weight of the cluster that the other bound adds to the data.

    Returns:
        number of items, with clusters of the same kind; None for a margin of zero, which no number is enough for.
    """
    if margin <= 0:
        return None
    z_alpha, z_power = (float(special.ndtri(level)) for level in (1 - alpha, power))
    at_margin = max(item_variance, least_variance)

    def excess(n: float) -> float:
        """Distance from no difference to the drop that n items rule out with this power, beyond the margin."""
        bound = added / n + z_alpha * math.sqrt(at_margin / n + (added / n) ** 2)
        return bound + z_power * math.sqrt(item_variance / n) - margin

    if excess(1.0) <= 0:
        return 1
    log_items = optimize.brentq(lambda log_n: excess(math.exp(log_n)), 0.0, LOG_MOST_ITEMS, xtol=1e-12)
    return math.ceil(math.exp(log_items))


def margin_variance(margin: float, changed: float = 0.0) -> float:
    """Variance per item that Tango's bound takes for 0/1 outcomes at a drop of the margin.

    Args:
        changed: share of items that changed, half of them lost: the estimate under the hypothesis then loses more.
    """
    b = -changed - 2 * margin
    p_lost = (math.sqrt(max(0.0, b * b - 4 * changed * margin * (1 + margin))) - b) / 4
    return 2 * p_lost - margin * (1 + margin)


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
