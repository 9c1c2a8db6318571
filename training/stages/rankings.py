"""Comparisons in the stages that learn from them: loading, gradients of a step, accuracy on held-out pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.artifacts import progress
from training.artifacts.comparisons import SIMULATED
from training.artifacts.rendering import Renderer
from training.data import reading, rendering, splits
from training.data.items import Ranking, Rankings
from training.data.usage import Usage
from training.rl import batches
from training.rl.losses import Pair, ranking_loss
from training.stages import limits

HELD_OUT = 0.1  # share of users whose comparisons are held out where no --validation is given
Score = Callable[[Sequence[int]], Tensor]  # of some rankings, by their numbers: the scores of all their responses


class Data(NamedTuple):
    """Rankings, as views into the cache.

    Attributes:
        split_by: what training and held-out rankings differ in: user, prompt or file.
    """

    training: Rankings
    held_out: Rankings
    split_by: str
    usages: list[Usage]


def load(config: Any, renderer: Renderer, context: int) -> Data:
    """Comparisons and held-out comparisons as token ids; says what is used of each.

    Args:
        config: has `data`, `validation`, `limit`, `hygiene`, `allow_revealed`, `seed` and `home`.
    """
    selection = reading.select(
        reading.COMPARISONS,
        config.data,
        limit=config.limit,
        seed=config.seed,
        hygiene=config.hygiene,
        revealed=config.allow_revealed,
    )
    rows = rendering.comparisons(config.home, selection, renderer, context)
    limits.report(rows.usage)
    usages = [rows.usage]
    if config.validation:
        others = reading.select(reading.COMPARISONS, config.validation, role="validation")
        split = splits.against(rows, rendering.comparisons(config.home, others, renderer, context))
        usages.append(split.held_out.usage)
        limits.report(split.held_out.usage)
    else:
        split = splits.hold_out(rows, HELD_OUT)
    limits.report_split(split)
    training = splits.weighted(split.training, selection.weights, config.seed).items
    return Data(training, split.held_out.items, split.by, usages)


def add_gradients(score: Score, rankings: Sequence[Ranking], tokens_per_pass: int) -> float:
    """Add the gradients of the mean loss over a whole step's prompts; returns that mean.

    Each response goes forward once; a prompt's pairs are averaged, then the prompts. Of several processes each adds
    its own part of gradients and mean.
    """
    loss = 0.0
    for part, weight in _own_passes(rankings, tokens_per_pass):
        share = weight * loss_of(score(part), [rankings[i] for i in part]) * len(part) / len(rankings)
        share.backward()
        loss += share.item()
    return loss


def loss_of(scores: Tensor, rankings: Sequence[Ranking]) -> Tensor:
    """Mean over the prompts of the mean loss of their decided pairs."""
    groups, start = [], 0
    for ranking in rankings:
        groups.append((range(start, start + len(ranking.rows)), ranking.pairs))
        start += len(ranking.rows)
    return ranking_loss(scores, groups)


def own_scores(score: Score, of: Sequence[Ranking], tokens_per_pass: int) -> dict[int, list[float]]:
    """Scores of the rankings' responses, by the rankings' numbers; of several processes each one's share of them."""
    scores: dict[int, list[float]] = {}
    with torch.no_grad():
        for part, _ in progress.track(_own_passes(of, tokens_per_pass), "held-out rankings scored"):
            values = iter(score(part).tolist())
            scores |= {i: [next(values) for _ in of[i].rows] for i in part}
    return scores


def measure(
    scores_by_number: Mapping[int, list[float]], training: Sequence[Ranking], held_out: Sequence[Ranking]
) -> dict[str, Any]:
    """Accuracy on held-out pairs, by group of labelers, beside what length alone would reach.

    The baseline prefers longer or shorter responses, in tokens, whichever the training pairs prefer. Equal scores
    count half.

    Args:
        scores_by_number: of the held-out rankings.
    """
    scored = [(held_out[number], scores) for number, scores in scores_by_number.items()]
    sign = length_sign(training)
    metrics: dict[str, Any] = {
        "training_comparisons": len(training),
        "length_baseline": "longer" if sign > 0 else "shorter",
    }
    if simulated := sum(ranking.group == SIMULATED for ranking in training):
        metrics["simulated_comparisons"] = simulated
    for group in sorted({ranking.group for ranking in held_out}):
        of_group = [(ranking, scores) for ranking, scores in scored if ranking.group == group]
        pairs = sum(len(ranking.pairs) for ranking, _ in of_group)
        right = sum(right_pairs(scores, ranking.pairs) for ranking, scores in of_group)
        by_length = sum(right_pairs([sign * n for n in ranking.lengths], ranking.pairs) for ranking, _ in of_group)
        metrics[f"pairs/{group}"] = pairs
        metrics[f"accuracy/{group}"] = right / pairs
        metrics[f"length_accuracy/{group}"] = by_length / pairs
    metrics["held_out_loss"] = sum(_loss(scores, ranking.pairs) for ranking, scores in scored) / len(scored)
    return metrics


def length_sign(training: Sequence[Ranking]) -> int:
    """1 where the pairs prefer the longer response, in tokens, at least as often as the shorter one; else -1."""
    return 1 if sum(right_pairs(r.lengths, r.pairs) - len(r.pairs) / 2 for r in training) >= 0 else -1


def right_pairs(values: Sequence[float], pairs: Sequence[Pair]) -> float:
    """How many pairs these values order as the labeler did; equal values count half."""
    margins = [(values[i] - values[j]) * outcome for i, j, outcome in pairs]
    return sum(1.0 if m > 0 else 0.5 if m == 0 else 0.0 for m in margins)


def _loss(values: Sequence[float], pairs: Sequence[Pair]) -> float:
    margins = [(values[i] - values[j]) * outcome for i, j, outcome in pairs]
    return sum(max(0.0, -m) + math.log1p(math.exp(-abs(m))) for m in margins) / len(margins)


def _own_passes(rankings: Sequence[Ranking], tokens_per_pass: int) -> list[batches.Pass[int]]:
    """Numbers of the rankings that go forward together in this process."""
    return batches.own_passes(range(len(rankings)), [sum(ranking.lengths) for ranking in rankings], tokens_per_pass)
