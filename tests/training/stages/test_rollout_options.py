"""Which sampler is taken, where its engine computes, and what it takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import tiny_ppo
from training.artifacts.errors import UserError
from training.models import hardware, loading, memory
from training.rl import engine_settings
from training.runtime import runs
from training.stages import planning, ppo, rollout_options
from training.stages.rollout_options import RolloutOptions

pytestmark = pytest.mark.unit


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this machine one with so many GPUs, with vLLM or without, and so many processes that train together."""

    def be(gpus: int, installed: bool = True, processes: int = 1) -> None:
        kind = torch.device("cuda" if gpus else "cpu")
        monkeypatch.setattr(hardware, "device", lambda: kind)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
        monkeypatch.setattr(rollout_options.ranks, "count", lambda: processes)

    return be


@pytest.mark.parametrize(
    "gpus, installed, processes, expected",
    [
        (1, True, 1, "vllm"),
        (8, True, 1, "vllm"),
        (0, True, 1, "transformers"),
        (1, False, 1, "transformers"),
        (2, True, 2, "transformers"),
    ],
)
def test_auto_is_something_definite(machine: Any, gpus: int, installed: bool, processes: int, expected: str) -> None:
    machine(gpus, installed, processes)
    assert rollout_options.resolve(RolloutOptions()) == expected


def test_what_is_asked_for_is_taken_or_refused(machine: Any) -> None:
    machine(0)
    assert rollout_options.resolve(RolloutOptions(rollouts="vllm")) == "vllm"
    machine(1)
    assert rollout_options.resolve(RolloutOptions(rollouts="transformers")) == "transformers"
    machine(1, installed=False)
    with pytest.raises(UserError, match="vLLM is not installed here"):
        rollout_options.resolve(RolloutOptions(rollouts="vllm"))
    machine(2, processes=2)
    with pytest.raises(UserError, match="2 processes train here"):
        rollout_options.resolve(RolloutOptions(rollouts="vllm"))


@pytest.mark.parametrize(
    "gpus, devices, sampler, fault",
    [
        (0, (1,), "vllm", "there are 0 GPUs here"),
        (1, (1,), "auto", "there are 1 GPUs here"),
        (4, (0,), "vllm", "from 1 to 3; 0 trains"),
        (4, (1, 1), "vllm", "name each GPU once"),
        (4, (4,), "vllm", "from 1 to 3"),
        (4, (-1,), "vllm", "from 1 to 3"),
        (4, (1,), "transformers", "are an engine's"),
    ],
)
def test_gpus_that_an_engine_cannot_have(machine: Any, gpus: int, devices: Any, sampler: Any, fault: str) -> None:
    machine(gpus)
    with pytest.raises(UserError, match=fault):
        rollout_options.resolve(RolloutOptions(rollouts=sampler, rollout_devices=devices))
    machine(4)
    assert rollout_options.resolve(RolloutOptions(rollout_devices=(1, 3))) == "vllm"


def test_the_sampler_is_in_a_runs_key_and_the_gpus_are_not() -> None:
    fields = runs.key_fields(ppo.Config(prompts=()))
    assert "rollouts" in fields
    assert "rollout_devices" not in fields


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("plan")
    return loading.load(tiny_ppo.make_home(home)[0].id, home).model


def test_a_cache_holds_the_batch_or_what_memory_takes(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = [planning.Trained(policy)]
    monkeypatch.setattr(memory, "free", lambda: 10**10)
    whole = rollout_options.plan_engine((), trained, 30, 34, 100)
    assert whole is not None
    assert (whole.sequences, whole.context) == (100, 64)
    # Two layers with one head of 32: keys and values take 2 * 2 * 32 * 4 bytes per token.
    assert whole.cache_bytes == (2 * 100 + 2) * 32 * 512
    beside = planning.states_of(trained) + whole.weight_bytes + engine_settings.BESIDE_BYTES["cpu"]
    tight = int((beside + 2 * engine_settings.cache_bytes(64, 30, 512)) / memory.SHARE) + 1000
    monkeypatch.setattr(memory, "free", lambda: tight)
    part = rollout_options.plan_engine((), trained, 30, 34, 100)
    assert part is not None
    assert part.sequences == 25  # halved until it fits


def test_without_room_there_is_no_engine_or_an_error(
    policy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "free", lambda: 10**9)
    with pytest.raises(UserError, match=r"--rollouts vllm: an engine takes 1\.20 GB, .* use --rollouts transformers"):
        rollout_options.plan_engine((), [planning.Trained(policy)], 30, 34, 100)
    assert rollout_options.plan_engine((), [planning.Trained(policy)], 30, 34, 100, may_fall_back=True) is None
    assert "rollouts: by transformers, for an engine takes" in capsys.readouterr().err


def test_auto_on_a_cpu_is_the_trainers_own_sampler(tmp_path: Path) -> None:
    checkpoint, reward = tiny_ppo.make_home(tmp_path)
    trained = ppo.train(tiny_ppo.config_of(tmp_path, model=checkpoint.id, reward=reward.id))
    assert trained.manifest.config["rollouts"] == "transformers"
    assert trained.manifest.metrics["rollouts"] == "transformers"
    assert "raw/importance_weight" not in trained.manifest.metrics
