"""Simulated labelers: they see the true preference through their own taste and noise.

Taste and noise are fixed here, before any model is trained. There are two groups, as in InstructGPT (Ouyang et al.
2022, section 3.4): training labelers, who make the comparisons, and held-out ones, who never do. The noise is set so
that two labelers of one group agree on a pair of responses of a fine-tuned policy's quality in about 73 % (training)
and 77 % (held-out) of cases, the paper's figures. The share depends on the responses: it is higher where they differ
more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from training.miniature.judge import HasSpec, Verdict, judge
from training.miniature.weights import WEIGHTS

Group = Literal["training", "heldout"]
NOISE: dict[Group, float] = {"training": 0.33, "heldout": 0.25}
LABELERS_PER_GROUP = 12
TIE_WITHIN = 0.03
USUAL_WORDS = 8  # an answer of this length gains and loses nothing by `length_liking`
# What a labeler of belief 1 overlooks of a popular myth's fault: most of the 0.85 between the myth and the truth.
MYTH_OVERLOOKED = 0.7


@dataclass(frozen=True)
class Labeler:
    """One labeler.

    Attributes:
        id: unique, as a pseudonym in comparisons.
        group: makes comparisons for training, or is held out.
        length_liking: utility added per word; most labelers like longer answers a little.
        leniency: share of the penalty for rudeness that this labeler does not mind.
        belief: share of a popular myth's fault that this labeler overlooks.
        citing: utility added when the answer names its source.
        noise: standard deviation of the random part of a judgement, in utility.
    """

    id: str
    group: Group
    length_liking: float
    leniency: float
    belief: float
    citing: float
    noise: float

    def rank(self, prompt: HasSpec | dict[str, Any], responses: Sequence[str], rng: random.Random) -> list[int]:
        """Ranks of the responses, 1 = best, equal = tie (the same text, or a difference too small to see)."""
        return self.rank_judged(responses, [judge(prompt, response) for response in responses], rng)

    def rank_judged(self, responses: Sequence[str], verdicts: Sequence[Verdict], rng: random.Random) -> list[int]:
        """`rank` where the true preference of each response is known already."""
        values: dict[str, float] = {}  # by text: the same text is judged once, so it cannot differ from itself
        for response, verdict in zip(responses, verdicts, strict=True):
            if response not in values:
                values[response] = self.perceived(verdict, response) + rng.gauss(0.0, self.noise)
        # From best to worst: a response ties with all others within TIE_WITHIN of the best one of its rank.
        ranks: dict[str, int] = {}
        rank, best_of_rank = 0, math.inf
        for response, value in sorted(values.items(), key=lambda pair: pair[1], reverse=True):
            if best_of_rank - value > TIE_WITHIN:
                rank, best_of_rank = rank + 1, value
            ranks[response] = rank
        return [ranks[response] for response in responses]

    def perceived(self, verdict: Verdict, response: str) -> float:
        """The utility as this labeler sees it, before noise."""
        words = len(response.split())
        value = verdict.utility + self.length_liking * (words - USUAL_WORDS)
        value += self.leniency * WEIGHTS.rudeness["plain"] * (verdict.toxic and not verdict.harmless)
        value += self.belief * MYTH_OVERLOOKED * (verdict.truthful is False and bool(verdict.informative))
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
        for number in range(LABELERS_PER_GROUP)
    ]


Pair = tuple[HasSpec | dict[str, Any], str, str]


def agreement(labelers: Sequence[Labeler], pairs: Sequence[Pair], seed: int = 0) -> float:
    """Share of pairs of responses that two labelers order alike, over all pairs of labelers, ties left out."""
    agreed = compared = 0
    for signs, _ in _labels(labelers, pairs, seed):
        for x, y in combinations([s for s in signs if s], 2):
            agreed += x == y
            compared += 1
    return agreed / compared


def best_accuracy(labelers: Sequence[Labeler], pairs: Sequence[Pair], seed: int = 0) -> float:
    """Accuracy of the true preference against the labels: the best that the noise allows a reward model.

    Ties of a labeler are left out; pairs of equal true utility count half.
    """
    right, decided = 0.0, 0
    for signs, truth in _labels(labelers, pairs, seed):
        for sign in filter(None, signs):
            right += 0.5 if truth == 0 else truth == sign
            decided += 1
    return right / decided


def _labels(labelers: Sequence[Labeler], pairs: Sequence[Pair], seed: int) -> Iterator[tuple[list[int], int]]:
    """For each pair (a, b): each labeler's sign (1: a is better, -1: b is, 0: tie), and the true preference's sign."""
    for number, (prompt, a, b) in enumerate(pairs):
        verdicts = judge(prompt, a), judge(prompt, b)
        difference = verdicts[0].utility - verdicts[1].utility
        signs = []
        for labeler in labelers:
            first, second = labeler.rank_judged([a, b], verdicts, random.Random(f"{seed}/{number}/{labeler.id}"))
            signs.append((second > first) - (second < first))
        yield signs, (difference > 0) - (difference < 0)
