"""Statistics of preferences: win rates, Bradley-Terry strengths with ties, agreement of labelers.

Votes of one labeler, and votes on one prompt, are not independent. Intervals therefore come from a bootstrap that
draws labelers and prompts anew, both at once (Owen 2007, "The pigeonhole bootstrap": weights multiply). They hold
for one look at the data: who looks every day and stops at the first good number is fooled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import optimize, stats
from threadpoolctl import threadpool_limits

from service.preferences.answers import Changes
from training.artifacts.comparisons import Comparison, pairs_of

LEVEL = 0.95
DRAWS = 1000
STRENGTH_DRAWS = 200
MIN_BOOTSTRAP_N = 20  # below this many pairs a bootstrap is too narrow: the exact binomial interval is given
Array = np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval. `value`, `low` and `high` are None when it could not be measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Duel:
    """Two checkpoints compared: wins of the first, ties, wins of the second, and the win rate with ties as half."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    rate: Estimate


@dataclass(frozen=True)
class Strength:
    """A checkpoint's Davidson strength, in natural log odds against the average of all checkpoints."""

    checkpoint: str
    log_odds: Estimate


@dataclass(frozen=True)
class Summary:
    """What the blind votes say. `votes` counts them; `revised` and `withdrawn` say how many of them were changed or
    withdrawn after the names of the checkpoints had been seen: they count as they were given. `changes` says by whom.
    `first_side` is the rate at which the response shown first wins."""

    votes: int
    revised: int
    withdrawn: int
    changes: tuple[Changes, ...]
    labelers: int
    prompts: int
    all_bad: int
    duels: tuple[Duel, ...]
    strengths: tuple[Strength, ...]
    first_side: Estimate
    agreement: Estimate
    tie_share: float | None


@dataclass(frozen=True)
class Votes:
    """Pairs of responses of different checkpoints, one row each, in the order shown; all arrays of shape (pairs,).

    Attributes:
        names: the checkpoints; `first` and `second` are indices into them.
        first: checkpoint of the response that was shown earlier (left or above).
        second: checkpoint of the other.
        outcome: 1 the first won, 0.5 tie, 0 the second won.
        labeler: index of the labeler.
        prompt: index of the prompt.
    """

    names: tuple[str, ...]
    first: Array
    second: Array
    outcome: Array
    labeler: Array
    prompt: Array


def summarize(comparisons: Iterable[Comparison], changes: Iterable[Changes] = (), seed: int = 0) -> Summary:
    """All figures of the results page. The same comparisons and seed give the same figures.

    Args:
        comparisons: the first answer to each task, given before any name was shown.
        changes: what labelers did to them later.
    """
    # BLAS threads bring nothing on arrays this small; beside busy engines they wait for each other twenty times longer.
    with threadpool_limits(1):
        return _summarize(list(comparisons), tuple(changes), seed)


def _summarize(rows: list[Comparison], changes: tuple[Changes, ...], seed: int) -> Summary:
    cross, every = votes_of(rows, across=True), votes_of(rows, across=False)
    rng = np.random.default_rng(seed)
    pairs = sorted({tuple(sorted(pair)) for pair in zip(cross.first.tolist(), cross.second.tolist(), strict=True)})
    return Summary(
        votes=len(rows),
        revised=sum(labeler.revised for labeler in changes),
        withdrawn=sum(labeler.withdrawn for labeler in changes),
        changes=changes,
        labelers=len({row.labeler for row in rows}),
        prompts=len({_prompt_key(row) for row in rows}),
        all_bad=sum(row.all_bad for row in rows),
        duels=tuple(duel(cross, i, j, rng) for i, j in pairs),
        strengths=strengths(cross, rng),
        first_side=mean_estimate(every.outcome, [every.labeler, every.prompt], rng),
        agreement=agreement(rows, rng),
        tie_share=float((every.outcome == 0.5).mean()) if every.outcome.size else None,
    )


def votes_of(comparisons: Iterable[Comparison], *, across: bool) -> Votes:
    """Every pair of a comparison as a vote, in the order shown.

    Args:
        across: only pairs whose responses come from two different known checkpoints.
    """
    labelers: dict[Hashable, int] = {}
    prompts: dict[Hashable, int] = {}
    rows: list[tuple[str, str, float, int, int]] = []
    for row in comparisons:
        order = row.shown or tuple(range(len(row.responses)))
        place = {index: position for position, index in enumerate(order)}
        labeler = labelers.setdefault(row.labeler, len(labelers))
        prompt = prompts.setdefault(_prompt_key(row), len(prompts))
        for i, j, outcome in pairs_of(row):
            a, b = row.responses[i].checkpoint or "", row.responses[j].checkpoint or ""
            if across and (not a or not b or a == b):
                continue
            first, second, value = (a, b, outcome) if place[i] < place[j] else (b, a, -outcome)
            rows.append((first, second, (value + 1) / 2, labeler, prompt))
    names = sorted({name for vote in rows for name in vote[:2]})
    index = {name: number for number, name in enumerate(names)}
    columns = np.array([(index[a], index[b], *rest) for a, b, *rest in rows], dtype=float).reshape(-1, 5).T
    whole = columns[[0, 1, 3, 4]].astype(int)
    return Votes(tuple(names), whole[0], whole[1], columns[2], whole[2], whole[3])


def duel(votes: Votes, i: int, j: int, rng: np.random.Generator) -> Duel:
    """Checkpoint `i` against `j`, whichever was shown first."""
    straight = (votes.first == i) & (votes.second == j)
    swapped = (votes.first == j) & (votes.second == i)
    both = straight | swapped
    outcome = np.where(straight, votes.outcome, 1 - votes.outcome)[both]
    rate = mean_estimate(outcome, [votes.labeler[both], votes.prompt[both]], rng)
    wins, ties = int((outcome == 1).sum()), int((outcome == 0.5).sum())
    return Duel(votes.names[i], votes.names[j], wins, ties, len(outcome) - wins - ties, rate)


def mean_estimate(values: Array, clusters: Sequence[Array], rng: np.random.Generator, draws: int = DRAWS) -> Estimate:
    """The mean of values in [0, 1] with an interval from a bootstrap over crossed clusters.

    With fewer than 20 values, or when all are the same, a bootstrap claims too much: the exact binomial
    interval (Clopper and Pearson) over the most numerous clustering is given instead.

    Args:
        values: shape (n,).
        clusters: for each clustering, the cluster of each value, shape (n,).
    """
    n = len(values)
    if n == 0:
        return Estimate(None, None, None, 0)
    mean = float(values.mean())
    if n < MIN_BOOTSTRAP_N or bool((values == values[0]).all()):
        units = max(len(np.unique(cluster)) for cluster in clusters)
        return Estimate(mean, *_exact_interval(mean, units), n)
    means = []
    for weights in _weights(clusters, rng, draws):
        total = weights.sum()
        if total > 0:
            means.append(float(weights @ values) / float(total))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high), n)


def strengths(votes: Votes, rng: np.random.Generator, draws: int = STRENGTH_DRAWS) -> tuple[Strength, ...]:
    """Strengths of all checkpoints by `fit_davidson`, strongest first, with clustered bootstrap intervals."""
    size = len(votes.names)
    if size < 2:
        return ()
    cells = (votes.first * size + votes.second) * 3 + (2 * votes.outcome).astype(int)

    def fit(weights: Array) -> Array:
        counts = np.bincount(cells, weights, minlength=size * size * 3).reshape(size, size, 3)
        return fit_davidson(counts)[0]

    point = fit(np.ones(len(cells)))
    fits = np.array([fit(weights) for weights in _weights([votes.labeler, votes.prompt], rng, draws) if weights.any()])
    low, high = np.quantile(fits, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    strengths = [
        Strength(name, Estimate(float(point[i]), float(low[i]), float(high[i]), _involved(votes, i)))
        for i, name in enumerate(votes.names)
    ]
    return tuple(sorted(strengths, key=lambda strength: -(strength.log_odds.value or 0.0)))


def fit_davidson(counts: Array, prior: float = 0.1) -> tuple[Array, float, float]:
    """Bradley-Terry with ties (Davidson 1970) and an advantage of the response shown first.

    With d = strength[first] + side - strength[second]:
    P(first) : P(tie) : P(second) = exp(d/2) : nu : exp(-d/2).

    Args:
        counts: shape (M, M, 3): of checkpoint [first, second], how often the second won, they tied, the first won.
        prior: precision of a normal prior on strengths and side, which keeps them finite when one always wins.

    Returns:
        Strengths that sum to 0, shape (M,); log nu; side.
    """
    size = counts.shape[0]

    def loss(parameters: Array) -> tuple[float, Array]:
        strength, log_nu, side = parameters[:size], parameters[size], parameters[size + 1]
        d = strength[:, None] - strength[None, :] + side
        logits = np.stack([-d / 2, np.full_like(d, log_nu), d / 2], axis=-1)
        top = logits.max(axis=-1, keepdims=True)
        normal = top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
        chance = np.exp(logits - normal)
        surplus = counts - counts.sum(axis=-1, keepdims=True) * chance  # gradient of the log likelihood in logits
        slope = (surplus[..., 2] - surplus[..., 0]) / 2
        gradient = np.concatenate([slope.sum(1) - slope.sum(0), [surplus[..., 1].sum(), slope.sum()]])
        penalty = prior * parameters
        value = -(counts * (logits - normal)).sum() + 0.5 * float(penalty @ parameters)
        return float(value), penalty - gradient

    best = optimize.minimize(loss, np.zeros(size + 2), jac=True, method="L-BFGS-B").x
    return best[:size] - best[:size].mean(), float(best[size]), float(best[size + 1])


def agreement(comparisons: Iterable[Comparison], rng: np.random.Generator) -> Estimate:
    """How often two labelers, given the same two responses, prefer the same one; pairs that either tied are left out.

    Can be measured only where responses were given to more than one labeler.
    """
    same: list[float] = []
    who: list[tuple[str, str, str]] = []
    for prompt, a, b in _repeats(comparisons):
        first, second = _by_text(a), _by_text(b)
        for pair in first.keys() & second.keys():
            if first[pair] and second[pair]:
                same.append(float(first[pair] == second[pair]))
                who.append((prompt, str(a.labeler), str(b.labeler)))
    indices = [np.unique([row[column] for row in who], return_inverse=True)[1] for column in range(3)] if who else []
    return mean_estimate(np.array(same), indices, rng)


def _repeats(comparisons: Iterable[Comparison]) -> Iterable[tuple[str, Comparison, Comparison]]:
    """Pairs of comparisons by different labelers of the same responses."""
    groups: dict[tuple[str, frozenset[str]], list[Comparison]] = defaultdict(list)
    for row in comparisons:
        groups[_prompt_key(row), frozenset(response.text for response in row.responses)].append(row)
    for (prompt, _), group in groups.items():
        for a, b in combinations(group, 2):
            if a.labeler != b.labeler:
                yield prompt, a, b


def _by_text(row: Comparison) -> dict[tuple[str, str], int]:
    """Outcome of each pair of different texts, keyed by the texts in alphabetical order."""
    outcomes = {}
    for i, j, outcome in pairs_of(row):
        a, b = row.responses[i].text, row.responses[j].text
        if a != b:
            outcomes[min(a, b), max(a, b)] = outcome if a < b else -outcome
    return outcomes


def _prompt_key(row: Comparison) -> str:
    return row.prompt_id or repr(row.messages)


def _weights(clusters: Sequence[Array], rng: np.random.Generator, draws: int) -> Iterable[Array]:
    """Bootstrap weights, shape (n,) a draw: every clustering is drawn anew, and its weights multiply."""
    codes = [np.unique(cluster, return_inverse=True) for cluster in clusters]
    draw: list[tuple[int, Array]] = [(len(names), index) for names, index in codes]
    for _ in range(draws):
        weights = np.ones(len(draw[0][1]))
        for size, index in draw:
            weights *= np.bincount(rng.integers(size, size=size), minlength=size)[index]
        yield weights


def _exact_interval(mean: float, n: int) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    won = mean * n
    low = 0.0 if won <= 0 else float(stats.beta.ppf(tail, won, n - won + 1))
    high = 1.0 if won >= n else float(stats.beta.ppf(1 - tail, won + 1, n - won))
    return low, high


def _involved(votes: Votes, index: int) -> int:
    return int(((votes.first == index) | (votes.second == index)).sum())
