"""How often a reward model orders held-out pairs as people did, beside what length alone would reach."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from training.artifacts import progress
from training.data import reading, rendering, splits
from training.models import hardware, loading, memory, templates
from training.rl import batches
from training.runtime.configuration import parse
from training.stages import intervals, limits, rankings, reward

TOKENS_PER_PASS = 4096


@dataclass(frozen=True)
class Config:
    """Measure a reward model on held-out comparisons, with the paired difference to a length baseline."""

    data: tuple[str, ...]
    """Held-out comparisons: files, folders or hub ids (ID[:configuration][@split])."""
    training: tuple[str, ...]
    """Comparisons that the reward model was trained on: held-out rows that are among them are left out, and whether
    they prefer longer or shorter responses is the baseline."""
    model: str = "reward"
    """Reward model: checkpoint id, stage (its newest), or folder."""
    context: int | None = None
    """Greatest number of tokens of a prompt with a response; longer responses are left out of their comparison. Left
    out, the model's own, at most 2,048."""
    dtype: hardware.Dtype = "auto"
    """What forward passes multiply in: `auto` is bfloat16 where the hardware has it, else float32."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


def measure(config: Config) -> dict[str, Any]:
    """Accuracy over all pairs, the baseline's, and their difference, each with an interval over prompts.

    Returns:
        `model`, `pairs`, `length_baseline` (longer or shorter), and `accuracy`, `length_accuracy`, `difference` as
        `intervals.Interval`. Equal scores and equal lengths count half.
    """
    hardware.set_threads()
    hardware.set_dtype(config.dtype)
    source = loading.load(config.model, config.home, "reward")
    renderer = templates.renderer_for(source)
    context = limits.context_of(source.model, config.context)
    training = rendering.comparisons(
        config.home, reading.select(reading.COMPARISONS, config.training), renderer, context
    )
    rows = rendering.comparisons(
        config.home, reading.select(reading.COMPARISONS, config.data, role="held out"), renderer, context
    )
    limits.report(training.usage, rows.usage)
    held_out = splits.against(training, rows).held_out
    score = reward.scores_of(source.model, held_out.items)
    scores = memory.Budget(TOKENS_PER_PASS).run([], lambda tokens: _scores(score, held_out.items, tokens))
    sign = rankings.length_sign(training.items)
    totals: dict[float, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for prompt, ranking, values in zip(held_out.prompts.tolist(), held_out.items, scores, strict=True):
        by_length = [sign * length for length in ranking.lengths]
        counted = (
            rankings.right_pairs(values, ranking.pairs),
            rankings.right_pairs(by_length, ranking.pairs),
            float(len(ranking.pairs)),
        )
        totals[prompt] = [total + one for total, one in zip(totals[prompt], counted, strict=True)]
    model, length, pairs = map(list, zip(*totals.values(), strict=True))
    difference = [one - other for one, other in zip(model, length, strict=True)]
    return {
        "model": source.key,
        "pairs": int(sum(pairs)),
        "length_baseline": "longer" if sign > 0 else "shorter",
        "accuracy": intervals.bootstrap(model, pairs),
        "length_accuracy": intervals.bootstrap(length, pairs),
        "difference": intervals.bootstrap(difference, pairs),
        "data": held_out.usage.summaries(),
    }


def _scores(score: rankings.Score, of: Sequence[Any], tokens_per_pass: int) -> list[list[float]]:
    """The raw reward of each ranking's responses, in the rankings' order."""
    scores: dict[int, list[float]] = {}
    parts = batches.passes(range(len(of)), [sum(ranking.lengths) for ranking in of], tokens_per_pass)
    with torch.no_grad():
        for part in progress.track(parts, "held-out pairs scored"):
            values = iter(score(part).tolist())
            scores |= {i: [next(values) for _ in of[i].rows] for i in part}
    return [scores[i] for i in range(len(of))]


def main(arguments: Sequence[str]) -> int:
    """`python -m training accuracy`."""
    print(json.dumps(measure(parse(Config, "accuracy", arguments))))
    return 0
