"""Several processes give the numbers of one, divide what they should, and one that dies loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.stages_in_ranks import RANKINGS, TRAIN, configs, write_rankings
from tests.training.conftest import Toy
from training.artifacts.checkpoints import Checkpoint, resolve
from training.rl import batches
from training.runtime import ranks, runs

ROOT = Path(__file__).parents[3]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def homes(toy_chain: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_rankings(folder / RANKINGS)
    return folder


def settings(chain: Toy, home: Path, shard: str = "none") -> dict[str, Any]:
    return configs(chain.home, str(chain.policy.path), str(chain.reward.path), home, shard)


def start(chain: Toy, home: Path, shard: str, *stages: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The stages in two processes."""
    home.mkdir(exist_ok=True)
    names = (chain.home, chain.policy.path, chain.reward.path, home)
    command = [*TORCHRUN, "-m", "tests.support.stages_in_ranks", *map(str, names), shard, *stages]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def alone(toy_chain: Toy, homes: Path) -> dict[str, Checkpoint]:
    """What each stage publishes in one process."""
    return {stage: TRAIN[stage](config) for stage, config in settings(toy_chain, homes / "alone").items()}


@pytest.fixture(scope="module", params=["none", "fsdp"])
def together(request: pytest.FixtureRequest, toy_chain: Toy, homes: Path) -> Path:
    """The home of all stages in two processes, each with whole models or with half of each."""
    done = start(toy_chain, homes / request.param, request.param)
    assert done.returncode == 0, done.stderr[-3000:]
    return homes / request.param


def facts_of(home: Path) -> list[dict[str, Any]]:
    return [json.loads((home / f"facts-{rank}.json").read_text()) for rank in range(2)]


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    weights, others = (load_file(one.path / "model.safetensors") for one in (found, expected))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], rtol=0, atol=1e-5)
    for name, value in expected.manifest.metrics.items():
        assert found.manifest.metrics[name] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)
    offset = expected.manifest.reward_offset
    assert found.manifest.reward_offset == (None if offset is None else pytest.approx(offset, abs=1e-5))


@pytest.mark.integration
def test_two_processes_publish_what_one_does(together: Path, alone: dict[str, Checkpoint]) -> None:
    facts = facts_of(together)
    for stage, expected in alone.items():
        assert facts[0][f"{stage}/id"] == facts[1][f"{stage}/id"]
        assert_same(resolve(facts[0][f"{stage}/id"], together / "checkpoints"), expected)
    assert len(list((together / "checkpoints").iterdir())) == len(alone)
    assert not list((together / "work").iterdir())


@pytest.mark.integration
def test_divided_models_lie_half_in_each_process(together: Path) -> None:
    for facts in facts_of(together):
        for stage in TRAIN:
            assert facts[stage]["divided"] == (together.name == "fsdp")
            assert facts[stage]["held"] == pytest.approx(0.5 if together.name == "fsdp" else 1.0, abs=0.02)
        if together.name == "fsdp":
            assert max(facts["tied"]) < 1e-5


@pytest.mark.integration
def test_a_process_that_dies_ends_the_others_and_the_last_state_resumes(
    toy_chain: Toy, homes: Path, alone: dict[str, Checkpoint]
) -> None:
    home = homes / "killed"
    begun = time.monotonic()
    done = start(toy_chain, home, "fsdp", "ppo-ptx", DIES_IN_STEP="4")
    assert done.returncode != 0
    assert time.monotonic() - begun < 120
    assert done.stderr.count("error: ") == 1
    assert "error: another process of this run ended" in done.stderr
    (state,) = (home / "work").glob("*/state.pt")
    assert torch.load(state)["step"] == 2
    shutil.copytree(home, homes / "killed-and-alone")
    done = start(toy_chain, home, "fsdp", "ppo-ptx")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("resumes from step 2") == 1
    assert_same(resolve("ppo-ptx", home / "checkpoints"), alone["ppo-ptx"])
    checkpoint = TRAIN["ppo-ptx"](settings(toy_chain, homes / "killed-and-alone")["ppo-ptx"])
    assert_same(checkpoint, alone["ppo-ptx"])


MISTAKE = """
from training.artifacts.errors import UserError, run_command
from training.runtime import ranks

def main():
    with ranks.group():
        raise UserError(f"no such file, {ranks.total(1.0):.0f} say")

raise SystemExit(run_command(main))
"""


@pytest.mark.integration
def test_a_mistake_of_all_is_said_once() -> None:
    command = [*TORCHRUN, "--no-python", sys.executable, "-c", MISTAKE]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == done.stderr.count("error: no such file, 2 say") == 1


@pytest.mark.integration
def test_accelerate_launches_too_and_a_signal_to_it_saves_the_same_step_in_all(toy_chain: Toy, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [*launch, "-m", "training", "sft", "--model", str(toy_chain.policy.path), "--home", str(tmp_path)]
    command += ["--data", str(toy_chain.home / "demonstrations.jsonl"), "--epochs", "2000"]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("tensorboard/*/metrics.jsonl")) and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert "which share each model" in errors
    assert errors.count("run the same command to resume") == 1, errors[-3000:]
    (state,) = tmp_path.glob("work/*/state.pt")
    assert torch.load(state)["step"] > 0


@pytest.mark.unit
def test_rows_are_shared_out_by_tokens_and_all_take_equally_many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.shares([5, 1, 9]) == [[0, 1, 2]]
    monkeypatch.setattr(ranks, "count", lambda: 3)
    sizes = [8, 1, 1, 7, 2, 6, 3]
    assert ranks.shares(sizes) == [[0, 1, 2], [3, 4], [5, 6]]
    assert ranks.shares([4]) == [[0], [], []]
    rows = list("abcdefg")
    taken = []
    for rank in range(3):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        parts = batches.own_passes(rows, sizes, 8)
        assert len(parts) == 2
        taken += [row for part, weight in parts for row in part if weight]
        assert batches.own_passes(["only"], [4], 8) == [(["only"], 1.0 if rank == 0 else 0.0)]
    assert sorted(taken) == rows


@pytest.mark.unit
def test_one_process_is_its_own_group(monkeypatch: pytest.MonkeyPatch) -> None:
    with ranks.group():
        assert (ranks.count(), ranks.rank(), ranks.total(0.1)) == (1, 0, 0.1)
        assert ranks.totals({"a": 0.1}) == {"a": 0.1}
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(runs.UserError, match="RANK is not set: start several processes with torchrun"), ranks.group():
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(runs.UserError, match="WORLD_SIZE is 'two'"), ranks.group():
        pass
