"""Rewards: their mean over a policy's answers, and how often a reward model agrees with labelers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.client import Client, Messages, Refused, in_batches
from evals.results import Item, prompt_hash
from training.artifacts.comparisons import Comparison, pairs_of
from training.miniature import Labeler, agreement, best_accuracy, judge

SUITE = "reward"
AGREEMENT_PAIRS = 600


async def mean_reward(client: Client, reward: str, answered: Sequence[Item]) -> list[Item]:
    """Items with the reward of each answer. A high reward alone proves nothing: the policy was trained on it."""

    async def several(batch: Sequence[Item]) -> list[float | None]:
        return await client.rewards(reward, [_conversation(i.prompt, i.response or "") for i in batch])

    with_response = [item for item in answered if item.response is not None]
    values = await in_batches(with_response, several, "rewards", client.concurrency)
    rewards = dict(zip((item.id for item in with_response), values, strict=True))
    items = []
    for item in answered:
        value = rewards.get(item.id)
        reason = value.reason if isinstance(value, Refused) else item.missing
        score = None if isinstance(value, Refused) else value
        if score is None and reason is None:
            reason = "no score came back"
        items.append(
            Item(SUITE, "prompts", item.id, item.prompt, item.prompt_hash, item.response, item.finish_reason,
                 {"reward": score}, tags=item.tags, missing=reason)
        )  # fmt: skip
    return items


async def accuracy(
    client: Client, reward: str, comparisons: Sequence[Comparison], specs: Mapping[str, Any]
) -> list[Item]:
    """One item per pair that a labeler ordered, by group of labelers; pairs of one prompt are one cluster.

    Args:
        specs: hash of the messages -> row with the world's `spec`, for what is truly better; may be empty.
    """

    async def several(batch: Sequence[Messages]) -> list[float | None]:
        return await client.rewards(reward, batch)

    conversations = [_conversation(c.messages, r.text) for c in comparisons for r in c.responses]
    answers = iter(await in_batches(conversations, several, "comparisons", client.concurrency))
    items = []
    for comparison in comparisons:
        rewards = [next(answers) for _ in comparison.responses]
        utilities = _utilities(comparison, specs)
        hashed = prompt_hash([list(comparison.messages), [r.text for r in comparison.responses]])
        for i, j, outcome in pairs_of(comparison):
            if outcome == 0:
                continue
            better, worse = (i, j) if outcome > 0 else (j, i)
            first, second = rewards[better], rewards[worse]
            missing = next((r.reason for r in (first, second) if isinstance(r, Refused)), None)
            gap = None
            if first is None or second is None:
                missing = "no score came back"
            elif not isinstance(first, Refused) and not isinstance(second, Refused):
                gap = first - second
            lengths = [len(comparison.responses[k].text) for k in (better, worse)]
            truth = None if utilities is None else utilities[better] - utilities[worse]
            scores = {
                "agrees": None if gap is None else float(gap > 0),
                "calibration": None if gap is None else (1 - _sigmoid(gap)) ** 2,
                "longer_wins": _half(lengths[0] - lengths[1]),
            }
            if truth:
                scores["prefers_better"] = None if gap is None else float(gap * truth > 0)
            items.append(
                Item(
                    suite=SUITE,
                    task=f"labelers_{comparison.labeler_group or 'unnamed'}",
                    id=f"{comparison.id}/{i}-{j}",
                    prompt=list(comparison.messages),
                    prompt_hash=hashed,
                    response=None,
                    finish_reason=None,
                    scores=scores,
                    cluster=prompt_hash(list(comparison.messages)),
                    missing=missing,
                )
            )
    return items


@dataclass(frozen=True)
class Bound:
    """What the labelers' own noise allows on the pairs of one group.

    Attributes:
        agreement: share of pairs that two labelers order alike.
        best: accuracy of the true preference: no reward model can do better, except by chance.
        pairs: number of pairs sampled.
    """

    agreement: float
    best: float
    pairs: int


def bounds(comparisons: Sequence[Comparison], specs: Mapping[str, Any], labelers: Sequence[Labeler]) -> Bound | None:
    """Agreement and best accuracy of a group's labelers on some pairs of known prompts; None without either."""
    pairs = []
    for comparison in comparisons:
        row = specs.get(prompt_hash(list(comparison.messages)))
        if row is not None:
            pairs += [
                (row, comparison.responses[i].text, comparison.responses[j].text) for i, j, _ in pairs_of(comparison)
            ]
    stride = max(1, len(pairs) // AGREEMENT_PAIRS)
    pairs = pairs[::stride]
    if not pairs or not labelers:
        return None
    return Bound(agreement(labelers, pairs), best_accuracy(labelers, pairs), len(pairs))


def _utilities(comparison: Comparison, specs: Mapping[str, Any]) -> list[float] | None:
    row = specs.get(prompt_hash(list(comparison.messages)))
    if row is None:
        return None
    return [judge(row, r.text, finished=r.finish_reason != "length").utility for r in comparison.responses]


def _conversation(messages: Messages, response: str) -> Messages:
    return [*messages, {"role": "assistant", "content": response}]


def _half(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
