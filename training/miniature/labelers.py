"""Simulated labelers: they see the true preference through their own taste and noise.

Taste and noise are fixed here, before any model is trained. Two groups, as in InstructGPT: training labelers,
who make the comparisons, and held-out ones, who never do. The noise is set so that two labelers of a group order
a pair of responses of a fine-tuned policy's quality alike in about 73 % (training) and 77 % (held-out) of cases. The
share depends on the responses: it is higher where they differ more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from training.miniature.judge import HasSpec, Verdict, judge

Group = Literal["training", "heldout"]
NOISE: dict[Group, float] = {"training": 0.33, "heldout": 0.25}
LABELERS_OF_A_GROUP = 12
TIE_WITHIN = 0.03


@dataclass(frozen=True)
class Labeler:
    """One labeler.

    Attributes:
        id, group: who it is.
        length_liking: added a word, in utility; most like longer answers a little.
        leniency: share of the penalty for rudeness that this labeler does not mind.
        belief: how much of the penalty for popular myths this labeler does not see.
        citing: added when the answer names its source.
        noise: standard deviation of the chance part of a judgement, in utility.
    """

    id: str
    group: Group
    length_liking: float
    leniency: float
    belief: float
    citing: float
    noise: float

    def rank(self, prompt: HasSpec | dict[str, Any], responses: Sequence[str], rng: random.Random) -> list[int]:
        """Ranks of the responses, 1 = best, equal = tie (the same text, or no difference to be seen)."""
        return self.rank_judged(responses, [judge(prompt, response) for response in responses], rng)

    def rank_judged(self, responses: Sequence[str], verdicts: Sequence[Verdict], rng: random.Random) -> list[int]:
        """`rank` where the true preference of each response is known already."""
        seen: dict[str, float] = {}
        for response, verdict in zip(responses, verdicts, strict=True):
            if response not in seen:
                seen[response] = self.perceived(verdict, response) + rng.gauss(0.0, self.noise)
        rank_of: dict[float, int] = {}
        last, rank = math.inf, 0
        for value in sorted(seen.values(), reverse=True):
            if last - value > TIE_WITHIN:
                rank, last = rank + 1, value
            rank_of[value] = rank
        return [rank_of[seen[response]] for response in responses]

    def perceived(self, verdict: Verdict, response: str) -> float:
        """The utility as this labeler sees it, before noise."""
        words = len(response.split())
        value = verdict.utility + self.length_liking * (words - 8)
        value += self.leniency * 0.6 * (verdict.toxic and not verdict.harmless)
        value += self.belief * 0.7 * (verdict.truthful is False and bool(verdict.informative))
        return value + self.citing * (" says " in response)


def make_labelers(group: Group, rng: random.Random) -> list[Labeler]:
    """The labelers of a group, with tastes drawn from `rng`."""
    return [
        Labeler(
            id=f"{group}-{number:02d}",
            group=group,
            length_liking=rng.gauss(0.004, 0.008),
            leniency=min(0.6, abs(rng.gauss(0.0, 0.25))),
            belief=min(0.6, abs(rng.gauss(0.0, 0.25))),
            citing=rng.gauss(0.02, 0.05),
            noise=NOISE[group] * rng.uniform(0.8, 1.2),
        )
        for number in range(LABELERS_OF_A_GROUP)
    ]


Pair = tuple[HasSpec | dict[str, Any], str, str]


def agreement(labelers: Sequence[Labeler], pairs: Sequence[Pair], seed: int = 0) -> float:
    """Share of pairs that two labelers order alike, over all pairs of labelers; ties of either are left out."""
    agreed = counted = 0
    for signs, _ in _labels(labelers, pairs, seed):
        for x, y in combinations([s for s in signs if s], 2):
            agreed += x == y
            counted += 1
    return agreed / counted


def best_accuracy(labelers: Sequence[Labeler], pairs: Sequence[Pair], seed: int = 0) -> float:
    """Accuracy of the true preference against the labels: the best that the noise allows a reward model.

    Ties of a labeler are left out; pairs of equal true utility count half.
    """
    right, counted = 0.0, 0
    for signs, truth in _labels(labelers, pairs, seed):
        for sign in filter(None, signs):
            right += 0.5 if truth == 0 else truth == sign
            counted += 1
    return right / counted


def _labels(labelers: Sequence[Labeler], pairs: Sequence[Pair], seed: int) -> Iterator[tuple[list[int], int]]:
    """For each pair (a, b): 1, -1 or 0 (tie) from each labeler as a is better, worse or the same; and the truth."""
    for number, (prompt, a, b) in enumerate(pairs):
        verdicts = judge(prompt, a), judge(prompt, b)
        difference = verdicts[0].utility - verdicts[1].utility
        signs = []
        for labeler in labelers:
            first, second = labeler.rank_judged([a, b], verdicts, random.Random(f"{seed}/{number}/{labeler.id}"))
            signs.append((second > first) - (second < first))
        yield signs, (difference > 0) - (difference < 0)
