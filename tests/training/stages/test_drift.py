"""Reward and KL on held-out prompts: by hand, zero where nothing moved, refused where it means nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.toy_world import ANIMALS, COLOURS
from tests.training.conftest import Toy
from training.artifacts.errors import UserError
from training.models import loading
from training.stages import dpo, drift

pytestmark = pytest.mark.unit
WORDS = {*ANIMALS, *COLOURS, "the", "is", "what", "colour", "now", "."}


@pytest.fixture(scope="module")
def moved(toy_chain: Toy, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A policy that direct preferences moved from the toy chain's."""
    config = dpo.Config(
        data=(str(toy_chain.home / "rankings.jsonl"),), model=toy_chain.policy.id, learning_rate=1e-3, batch=8,
        home=toy_chain.home,
    )  # fmt: skip
    return dpo.train(config).id


def config_of(chain: Toy, *policies: str, **changes: Any) -> drift.Config:
    settings: dict[str, Any] = {
        "prompts": (str(chain.home / "prompts.jsonl"),),
        "policy": policies,
        "start": chain.policy.id,
        "reward": chain.reward.id,
        "max_tokens": 12,
        "home": chain.home,
    }
    return drift.Config(**(settings | changes))


def test_kl_is_of_the_policy_s_own_answers(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    prompts, answers = [[0, 3, 264], [0, 3]], [[265, 4, 0], [261, 0]]
    for prompt, answer, value in zip(prompts, answers, drift._logprobs(model, prompts, answers, 0.5), strict=True):
        with torch.no_grad():
            logprobs = (model(torch.tensor([prompt + answer])).logits[0] / 0.5).log_softmax(-1)
        by_hand = sum(float(logprobs[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))
        assert value == pytest.approx(by_hand, abs=1e-4)


def test_a_moved_policy_has_a_kl_and_the_start_has_none(toy_chain: Toy, moved: str, tmp_path: Path) -> None:
    figures = drift.measure(config_of(toy_chain, moved, out=tmp_path / "answers.jsonl"))
    start, other = figures["policies"][toy_chain.policy.id], figures["policies"][moved]
    assert "kl" not in start
    assert other["kl"]["low"] > 0
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == figures["prompts"] == 24
    of = {name: [row["responses"][name] for row in rows] for name in figures["policies"]}
    assert other["kl"]["value"] == pytest.approx(sum(row["kl"] for row in of[moved]) / 24)
    gain = sum(row["reward"] for row in of[moved]) - sum(row["reward"] for row in of[toy_chain.policy.id])
    assert other["gain"]["value"] == pytest.approx(gain / 24)
    assert other["kl_per_token"]["value"] == pytest.approx(other["kl"]["value"] / other["tokens"])


def test_the_start_by_another_name_is_measured_once(toy_chain: Toy) -> None:
    figures = drift.measure(config_of(toy_chain, str(toy_chain.policy.path), limit=6))
    assert len(figures["policies"]) == 1


def test_the_reward_is_the_reward_model_s_of_the_whole_conversation(toy_chain: Toy, tmp_path: Path) -> None:
    from training.artifacts.rendering import Renderer
    from training.models import forward

    drift.measure(config_of(toy_chain, out=tmp_path / "answers.jsonl", max_tokens=16))
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    source = loading.load(toy_chain.reward.id, toy_chain.home, "reward")
    compared = 0
    for row in rows:
        answer = row["responses"][toy_chain.policy.id]
        # Bytes that form no word are sampled as other tokens than their text is written with.
        if not answer["finished"] or not set(answer["text"].split()) <= WORDS:
            continue
        compared += 1
        turn = {"role": "assistant", "content": answer["text"]}
        (rendered,) = Renderer(source.tokenizer).render([[*row["messages"], turn]])
        with torch.no_grad():
            raw = forward.scores_of(source.model, [rendered.ids]).item()
        assert answer["reward"] == pytest.approx(raw - (toy_chain.reward.manifest.reward_offset or 0), abs=1e-4)
    assert compared > 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"temperature": 0.0}, "a greedy policy has no KL"), ({"max_tokens": 0}, "--max-tokens 0: use at least 1")],
)
def test_settings_that_mean_nothing_are_refused(toy_chain: Toy, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        drift.measure(config_of(toy_chain, **changes))
