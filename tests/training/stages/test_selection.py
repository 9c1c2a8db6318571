"""Fine-tuning over epochs: the weights of the last, or of the one with the best loss or reward."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import Toy
from tests.training.runtime.test_runs import Killed, kill_in_step, weights
from training.artifacts.errors import UserError
from training.data.items import Example
from training.runtime import metrics, runs
from training.runtime.configuration import from_preset
from training.stages import ppo, selection, sft

pytestmark = pytest.mark.unit


def config_of(chain: Toy, home: Path, **changes: Any) -> sft.Config:
    """Four epochs of five steps, at a rate that overshoots."""
    settings: dict[str, Any] = {
        "data": (str(chain.home / "demonstrations.jsonl"),), "model": str(chain.policy.path), "batch": 8,
        "learning_rate": 3e-2, "epochs": 4, "home": home,
    }  # fmt: skip
    return sft.Config(**(settings | changes))


def by_epoch(home: Path, name: str) -> list[float]:
    (file,) = home.glob("tensorboard/sft-*/metrics.jsonl")
    return [line[f"epoch/{name}"] for line in metrics.read(file) if f"epoch/{name}" in line]


def test_the_epoch_with_the_lowest_loss_is_published(toy_chain: Toy, tmp_path: Path) -> None:
    made = sft.train(config_of(toy_chain, tmp_path, select_by="loss", learning_rate=0.1))
    figures = by_epoch(tmp_path, "validation_loss")
    assert len(figures) == 4
    assert made.manifest.metrics["epoch"] == 1 + int(np.argmin(figures))
    assert made.manifest.metrics["validation_loss"] == pytest.approx(min(figures), abs=1e-5)
    last = sft.train(config_of(toy_chain, tmp_path / "last", learning_rate=0.1))
    assert "epoch" not in last.manifest.metrics
    assert last.manifest.metrics["validation_loss"] == pytest.approx(figures[-1], abs=1e-5)


def test_the_epoch_with_the_highest_reward_is_published(
    toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reward is given by the test: the second epoch's is the highest, and its loss is not the lowest."""
    made = sft.train(config_of(toy_chain, tmp_path / "a", select_by="reward", reward=str(toy_chain.reward.path)))
    rewards = by_epoch(tmp_path / "a", "validation_reward")
    assert made.manifest.metrics["epoch"] == 1 + int(np.argmax(rewards))
    assert made.manifest.metrics["validation_reward"] == max(rewards)
    values = iter((0.0, 2.0, 1.0, 2.0))
    monkeypatch.setattr(selection, "mean_reward", lambda *_: {"validation_reward": next(values), "finished": 1.0})
    second = sft.train(config_of(toy_chain, tmp_path / "b", select_by="reward", reward=str(toy_chain.reward.path)))
    assert second.manifest.metrics["epoch"] == 2
    assert second.manifest.metrics["validation_reward"] == 2.0


def test_a_killed_selection_with_dropout_goes_on_to_the_same_bits(
    toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(runs, "SAVE_SHARE", 1e9)
    settings: dict[str, Any] = {"select_by": "loss", "dropout": 0.2}
    whole = sft.train(config_of(toy_chain, tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        kill_in_step(patch, 12)
        with pytest.raises(Killed):
            sft.train(config_of(toy_chain, tmp_path / "killed", **settings))
    resumed = sft.train(config_of(toy_chain, tmp_path / "killed", **settings))
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(whole).items())
    assert whole.manifest.metrics == resumed.manifest.metrics
    plain = sft.train(config_of(toy_chain, tmp_path / "plain", select_by="loss"))
    assert not all(torch.equal(tensor, weights(plain)[name]) for name, tensor in weights(whole).items())


def test_a_prompt_ends_where_the_last_answer_begins() -> None:
    example = Example(np.arange(10), np.array([0, 0, 1, 1, 0, 0, 0, 1, 1, 1], np.uint8))
    assert selection.prompt_of(example) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"select_by": "reward"}, "--select-by reward and --reward MODEL go together"),
        ({"reward": "reward"}, "--select-by reward and --reward MODEL go together"),
        ({"dropout": 1.0}, "--dropout 1.0: use a share"),
    ],
)
def test_settings_without_sense_are_refused(
    toy_chain: Toy, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sft.check(replace(config_of(toy_chain, tmp_path), **change))


def test_the_preset_paper_has_the_paper_s_settings() -> None:
    fine_tuning = from_preset(sft.Config, "sft", "paper")
    assert (fine_tuning.epochs, fine_tuning.dropout, fine_tuning.select_by) == (16, 0.2, "loss")
    policy = from_preset(ppo.Config, "ppo", "paper")
    assert policy.ptx_documents == 8 * policy.minibatch
