"""Rewards: their mean over a policy's answers to your prompts, and how often a reward model agrees with labelers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evals.bench import Bench, Row
from evals.client import Client
from evals.concurrently import in_batches
from evals.generation import Answer, Messages
from evals.results import Item, prompt_hash
from evals.sources import Sources
from evals.suite import Measurement, Metric, Suite
from evals.transport import Refused
from training.artifacts.comparisons import Comparison, pairs_of

NAME = "reward"
METRICS = (
    Metric("prompts.reward", "mean reward (a policy is trained on it, so it overstates the gain)", None, share=False),
    Metric("*.agrees", "{task}: prefers what the labeler preferred", flips=True),
    Metric("*.longer_wins", "{task}: the longer response is preferred by the labeler", None),
    Metric("*.probability", "{task}: probability that it gives to what the labeler preferred, on average"),
    Metric("*.calibration", "{task}: squared error of sigmoid(difference) as a probability", "lower", share=False),
)


def needs(sources: Sources) -> str | None:
    """A reward model, and prompts or comparisons to use it on."""
    if not sources.reward:
        return "give --reward"
    if not sources.comparisons and "prompts" not in sources.files:
        return "give --comparisons, or --data prompts=FILE"
    return None


async def measure(bench: Bench) -> Measurement:
    """A policy's mean reward; of the reward model itself, its accuracy."""
    assert bench.reward is not None, "the suite needs a reward model"
    if bench.subject.ask == "score":
        return Measurement(await accuracy(bench.client, bench.reward.checkpoint, bench.sources.comparisons))
    if "prompts" not in bench.sources.files:
        return Measurement([])
    rows, described = bench.prompts()
    rows, answers = await bench.answered(NAME, rows, "prompts of yours")
    items = await mean_reward(bench, rows, answers)
    return Measurement(items, data={"prompts": described}, settings=settings(bench))


def settings(bench: Bench) -> dict[str, object]:
    """What must agree between two mean rewards."""
    return bench.settings() | {"reward": bench.reward.checkpoint if bench.reward else None}


async def mean_reward(bench: Bench, rows: Sequence[Row], answers: Sequence[Answer | Refused]) -> list[Item]:
    """Items with the reward of each answer. A high reward alone proves nothing: the policy was trained on it."""
    assert bench.reward is not None, "a mean reward needs a reward model"
    reward = bench.reward.checkpoint

    async def several(batch: Sequence[Messages]) -> list[float | None]:
        return await bench.client.rewards(reward, batch)

    answered = [(i, a) for i, a in enumerate(answers) if isinstance(a, Answer)]
    conversations = [conversation(rows[i]["messages"], a.text) for i, a in answered]
    values = await in_batches(conversations, several, "rewards", bench.client.concurrency)
    rewards = dict(zip((i for i, _ in answered), values, strict=True))
    items = []
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        value, missing = rewards.get(number), None
        if isinstance(answer, Refused):
            missing = answer.reason
        elif isinstance(value, Refused):
            missing = value.reason
        elif value is None:
            missing = "no score came back"
        text = answer.text if isinstance(answer, Answer) else None
        items.append(
            Item(
                NAME, "prompts", str(row["id"]), row["messages"], prompt_hash(row["messages"]), text,
                answer.finish_reason if isinstance(answer, Answer) else None,
                {"reward": None if isinstance(value, Refused) else value}, cluster=row.get("cluster"), missing=missing,
                seed=answer.seed if isinstance(answer, Answer) else None,
            )
        )  # fmt: skip
    return items


async def accuracy(client: Client, reward: str, comparisons: Sequence[Comparison]) -> list[Item]:
    """One item per pair that a labeler ordered, by group of labelers; pairs of one prompt are one cluster."""
    scores = await scores_of(client, reward, comparisons)
    return [
        item for comparison, rewards in zip(comparisons, scores, strict=True) for item in _pairs(comparison, rewards)
    ]


async def scores_of(
    client: Client, reward: str, comparisons: Sequence[Comparison]
) -> list[list[float | Refused | None]]:
    """The reward of every response, shape (comparisons, responses)."""

    async def several(batch: Sequence[Messages]) -> list[float | None]:
        return await client.rewards(reward, batch)

    conversations = [conversation(c.messages, r.text) for c in comparisons for r in c.responses]
    values = await in_batches(conversations, several, "comparisons", client.concurrency)
    scores, start = [], 0
    for comparison in comparisons:
        scores.append(values[start : start + len(comparison.responses)])
        start += len(comparison.responses)
    return scores


def gap_of(first: float | Refused | None, second: float | Refused | None) -> tuple[float | None, str | None]:
    """The difference of two rewards, or why it is missing."""
    for value in (first, second):
        if isinstance(value, Refused):
            return None, value.reason
    if first is None or second is None:
        return None, "no score came back"
    return first - second, None  # type: ignore[operator]  # neither is `Refused` here


def _pairs(comparison: Comparison, rewards: Sequence[float | Refused | None]) -> list[Item]:
    hashed = prompt_hash([list(comparison.messages), [r.text for r in comparison.responses]])
    items = []
    for i, j, outcome in pairs_of(comparison):
        if outcome == 0:
            continue
        better, worse = (i, j) if outcome > 0 else (j, i)
        gap, missing = gap_of(rewards[better], rewards[worse])
        longer = len(comparison.responses[better].text) - len(comparison.responses[worse].text)
        probability = None if gap is None else _sigmoid(gap)
        scores = {
            "agrees": None if gap is None else float(gap > 0),
            "probability": probability,
            "calibration": None if probability is None else (1 - probability) ** 2,
            "longer_wins": 0.5 if longer == 0 else float(longer > 0),
        }
        items.append(
            Item(
                suite=NAME,
                task=f"labelers_{(comparison.labeler_group or 'unnamed').replace('.', '-')}",
                id=f"{comparison.id}/{i}-{j}",
                prompt=list(comparison.messages),
                prompt_hash=prompt_hash([hashed, i, j, outcome]),
                response=None,
                finish_reason=None,
                scores=scores,
                cluster=prompt_hash(list(comparison.messages)),
                missing=missing,
            )
        )
    return items


def conversation(messages: Messages, response: str) -> Messages:
    """The conversation with the response as its last turn."""
    return [*messages, {"role": "assistant", "content": response}]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


SUITE = Suite(NAME, "Reward", METRICS, needs, measure, reads=("prompts",))
