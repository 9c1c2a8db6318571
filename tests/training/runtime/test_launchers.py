"""What accelerate's environment asks for: sharding, DeepSpeed's configuration, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.errors import UserError
from training.runtime import launchers

pytestmark = pytest.mark.unit


def deepspeed(file: Path, settings: Any) -> dict[str, str]:
    file.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}


def test_nothing_is_asked_for() -> None:
    for environment in ({}, {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_FSDP": "false"}):
        assert launchers.check(environment) is None
        assert not launchers.shards(environment)


def test_fsdp_of_either_version_shards_unless_its_strategy_is_none() -> None:
    asked = {"ACCELERATE_USE_FSDP": "true"}
    assert launchers.shards(asked | {"FSDP_VERSION": "2", "FSDP_SHARDING_STRATEGY": "FULL_SHARD"})
    assert launchers.shards(asked | {"FSDP_VERSION": "1", "FSDP_SHARDING_STRATEGY": "1"})
    assert not launchers.shards(asked | {"FSDP_SHARDING_STRATEGY": "NO_SHARD"})


@pytest.mark.parametrize("stage, shards", [(0, False), (1, True), (2, True), (3, True)])
def test_a_zero_stage_shards_and_the_engine_is_said_not_to_be_used(tmp_path: Path, stage: int, shards: bool) -> None:
    environment = deepspeed(
        tmp_path / "ds.json",
        {"zero_optimization": {"stage": stage}, "bf16": {"enabled": True}, "train_micro_batch_size_per_gpu": "auto"},
    )
    assert launchers.shards(environment) == shards
    sentence = launchers.check(environment)
    assert sentence is not None
    assert sentence.startswith(f"DeepSpeed's engine is not used: for its ZeRO stage {stage}, ")


def test_accelerates_own_options_of_deepspeed_count_where_there_is_no_file() -> None:
    environment = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": "none"}
    assert launchers.shards(environment | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"})
    assert not launchers.shards(environment | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"})
    with pytest.raises(UserError, match="offloading"):
        launchers.check(environment | {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"})


@pytest.mark.parametrize(
    "settings, message",
    [
        ("{", "is not a DeepSpeed configuration in JSON"),
        ([], "is not a DeepSpeed configuration in JSON"),
        ({"zero_optimization": 3}, "is not a DeepSpeed configuration in JSON"),
        ({"zero_optimization": {"offload_param": "cpu"}}, "is not a table"),
        ({"fp16": {"enabled": True}}, "fp16 is not used"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}, "offloading is not done"),
        ({"zero_optimization": {"stage": 4}}, "ZeRO stage 4"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, settings: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        launchers.check(deepspeed(tmp_path / "ds.json", settings))


def test_a_file_that_is_not_there_and_other_engines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a DeepSpeed configuration"):
        launchers.check(
            {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(tmp_path / "nothing.json")}
        )
    for name in launchers.REFUSED:
        with pytest.raises(UserError, match=name):
            launchers.check({name: "true"})
    with pytest.raises(UserError, match="--dtype"):
        launchers.check({"ACCELERATE_MIXED_PRECISION": "fp16"})
