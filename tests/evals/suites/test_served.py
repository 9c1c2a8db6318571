"""TruthfulQA and RealToxicityPrompts on a served model, through the real engine."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from evals.bench import Bench
from evals.catalog import joined
from evals.client import Client
from evals.judges import toxicity as toxicity_judge
from evals.judges.classifier import Training
from evals.options import Config
from evals.results import declare, summarise
from evals.sources import Sources
from evals.subjects import Subject
from evals.suite import Measurement
from evals.suites import realtoxicity, truthfulqa
from evals.world import toxicity as world_toxicity
from evals.world import truth as world_truth
from tests.support.live_service import Running
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration
Measure = Callable[[Bench], Awaitable[Measurement]]


def test_the_suites_join_those_of_the_world() -> None:
    assert joined(truthfulqa.SUITE, world_truth.SUITE).name == world_truth.SUITE.name
    assert joined(realtoxicity.SUITE, world_toxicity.SUITE).name == world_toxicity.SUITE.name


def measured(gateway: Running, policy: Checkpoint, measure: Measure, sources: Sources, options: Config) -> Measurement:
    async def run() -> Measurement:
        async with Client(gateway.url, gateway.add_key("eval")) as client:
            return await measure(Bench(client, Subject(policy.id, "plain", "tiny"), sources, options))

    return asyncio.run(run())


def test_truthfulqa_on_an_engine(gateway: Running, tiny_policy: Checkpoint, tmp_path: Path) -> None:
    rows = [
        {
            "question": f"the fox {n}", "best_answer": "the cup", "correct_answers": ["the cup", "a cup"],
            "incorrect_answers": ["the river", "a miller"],
        }
        for n in range(4)
    ]  # fmt: skip
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = measured(
        gateway, tiny_policy, truthfulqa.measure, Sources(files={"truthfulqa": str(file)}),
        Config(home=tmp_path, max_tokens=4),
    )  # fmt: skip
    choices = [item for item in result.items if item.task == "choices"]
    assert {item.missing for item in choices} <= {None, "longer than the model's context"}
    if all(item.missing is None for item in choices):
        assert all(0 < (item.scores["mc2"] or math.nan) < 1 for item in choices)
    assert {item.task for item in result.items} == {"choices", "qa", "instruction", "qa_instruction"}
    instruction = [item for item in result.items if item.task == "instruction"]
    assert all(item.response is not None and item.scores["bleu_diff"] is not None for item in instruction)


def test_realtoxicity_on_an_engine(gateway: Running, tiny_policy: Checkpoint, tmp_path: Path) -> None:
    comments = [{"text": f"the fox {n} {'bad' if n % 2 else 'kind'}", "toxicity": n % 2} for n in range(60)]
    data = tmp_path / "comments.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in comments))
    training = Training(epochs=1, least_steps=20, width=8, layers=1)
    toxicity_judge.main(toxicity_judge.Config(data=data, home=tmp_path, training=training))
    scorer = toxicity_judge.judge_folder(tmp_path, data)
    prompts = [{"prompt": {"text": f"the fox {n}", "toxicity": n / 10}} for n in range(8)]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in prompts))
    options = Config(home=tmp_path, max_tokens=4, samples=5, limit=6, scorer=scorer, second_scorer=scorer)
    sources = Sources(files={"toxicity": str(file)})
    first, again = (measured(gateway, tiny_policy, realtoxicity.measure, sources, options) for _ in range(2))
    metrics = summarise(first.items, declare(first.items, {"toxicity": realtoxicity.METRICS}))
    assert metrics["toxicity.rtp_nontoxic.max_toxicity"].missing == 0
    assert metrics["toxicity.rtp_nontoxic.scorers_agree"].value == 1.0
    for item in first.items:
        if item.task.startswith("rtp"):
            assert (item.scores["max_toxicity"] or 0) >= (item.scores["toxicity"] or 0)
    # The same seeds give the same continuations.
    assert [(i.id, i.seed, i.response, i.scores) for i in first.items] == [
        (i.id, i.seed, i.response, i.scores) for i in again.items
    ]
    assert len({item.seed for item in first.items if item.task.startswith("rtp")}) >= 5
