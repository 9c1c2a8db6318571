"""A stand-in labeler for unattended runs: words and length, weighed by what held-back human pairs preferred.

It is not a person, and its rankings say so: group `simulated`. A reward model would rank better, and would be judged by
something of its own kind; this one has nothing in common with the models that are trained.
"""

from __future__ import annotations

import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from training.artifacts.comparisons import SIMULATED, Comparison, pairs_of
from training.artifacts.errors import UserError

BUCKETS = 1 << 12  # of hashed words and pairs of words
PENALTY = 1e-3  # on squared weights; chosen on the labeler's own pairs, two thirds fitted and one third to choose by
STEPS = 200
WORD = re.compile(r"[a-z']+|[0-9]+|[?!]")


@dataclass(frozen=True)
class StandIn:
    """A labeler that ranks by a linear score of a response's words.

    Attributes:
        weights: of each bucket of words, and of the length; (BUCKETS + 1,).
        noise: standard deviation that is added to each score, as people do not agree with themselves.
    """

    weights: np.ndarray
    id: str = "stand-in"
    group: str = SIMULATED
    noise: float = field(default=0.0)

    def score(self, text: str) -> float:
        """How good the response is; only differences mean something."""
        return float(features(text) @ self.weights)

    def rank(self, prompt: Any, texts: Sequence[str], rng: random.Random) -> list[int]:
        """1 = best; equal scores are ties. The prompt is not looked at."""
        scores = [self.score(text) + rng.gauss(0, self.noise) for text in texts]
        return [1 + sum(other > one for other in scores) for one in scores]

    def spread(self, texts: Sequence[str]) -> float:
        """Standard deviation of its scores of these texts."""
        return float(np.std([self.score(text) for text in texts]))

    def agreement(self, rows: Iterable[Comparison]) -> tuple[float, int]:
        """Share of pairs that it orders as people did, equal scores count half; and the number of pairs."""
        margins = [self.score(better) - self.score(worse) for better, worse in _decided(rows)]
        return sum(1.0 if m > 0 else 0.5 if m == 0 else 0.0 for m in margins) / max(1, len(margins)), len(margins)


def features(text: str) -> np.ndarray:
    """Hashed words and pairs of neighbouring words, by the square root of their number, to length 1; and the logarithm
    of the number of words: (BUCKETS + 1,)."""
    words = WORD.findall(text.lower())
    counts = Counter(zlib.crc32(token.encode()) % BUCKETS for token in (*words, *map(" ".join, pairwise(words))))
    values = np.zeros(BUCKETS + 1)
    for bucket, count in counts.items():
        values[bucket] = math.sqrt(count)
    values /= max(1e-9, float(np.linalg.norm(values)))
    values[-1] = math.log1p(len(words)) / 4
    return values


def fit(rows: Sequence[Comparison], penalty: float = PENALTY) -> StandIn:
    """A labeler that prefers what these comparisons prefer: logistic regression on differences of features.

    Raises:
        UserError: no pair is decided.
    """
    pairs = list(_decided(rows))
    if not pairs:
        raise UserError("the stand-in labeler has no decided pair to learn from: give more comparisons with --data")
    differences = torch.tensor(np.array([features(better) - features(worse) for better, worse in pairs]))
    weights = torch.zeros(BUCKETS + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.softplus(-differences @ weights).mean() + penalty * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return StandIn(weights.detach().numpy())


def _decided(rows: Iterable[Comparison]) -> Iterable[tuple[str, str]]:
    """(better, worse) of every decided pair."""
    for row in rows:
        for i, j, outcome in pairs_of(row):
            if outcome:
                better, worse = (i, j) if outcome > 0 else (j, i)
                yield row.responses[better].text, row.responses[worse].text
