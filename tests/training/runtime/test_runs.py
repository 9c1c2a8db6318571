"""Runs: resumed ones give the same bits, nothing half-written is left, the very same run starts once only."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from tests.training.stages.test_ppo import config_of
from training.artifacts.checkpoints import Checkpoint, checkpoints
from training.artifacts.errors import UserError
from training.runtime import runs
from training.stages import dpo, ppo, pretrain, reward, sft

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Settings:
    """Of a run without any."""


class Killed(BaseException):
    """Ends a run between two statements, as SIGKILL does."""


@pytest.fixture
def saved_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(runs, "SAVE_SHARE", 1e9)


def kill_in_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the optimizer of a run die in its n-th call, with gradients half used."""
    calls = iter(range(10**6))
    original = torch.optim.AdamW.step

    def dying(self: Any, *arguments: Any) -> Any:
        if next(calls) == step:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", dying)


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.path / "model.safetensors")


STAGES = ["pretrain", "sft", "reward", "dpo", "ppo"]


def start(stage: str, chain: Toy, home: Path) -> Checkpoint:
    """Run a stage of the toy chain under another home, from the chain's checkpoints by path."""
    data = chain.home
    if stage == "pretrain":
        config = replace(toy.pretrain_config(data), tokenizer=str(data / "tokenizer" / "default"), home=home)
        return pretrain.train(config)
    if stage == "sft":
        return sft.train(
            sft.Config(
                str(data / "demonstrations.jsonl"), str(chain.policy.path), batch=8, learning_rate=1e-3, home=home
            )
        )
    if stage == "reward":
        return reward.train(
            reward.Config(str(data / "rankings.jsonl"), str(chain.policy.path), batch=4, learning_rate=1e-3, home=home)
        )
    if stage == "dpo":
        return dpo.train(
            dpo.Config((str(data / "rankings.jsonl"),), str(chain.policy.path), batch=4, learning_rate=1e-3, home=home)
        )
    changes = {"iterations": 3, "ptx_coefficient": 0.3, "kl_target": 1.0}
    return ppo.train(
        config_of(chain, model=str(chain.policy.path), reward=str(chain.reward.path), home=home, **changes)
    )


@pytest.mark.unit
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_goes_on_to_the_same_bits(
    stage: str, toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved_every_step: None
) -> None:
    whole = start(stage, toy_chain, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_in_step(patch, 6 if stage == "ppo" else 4)
        with pytest.raises(Killed):
            start(stage, toy_chain, tmp_path / "killed")
    assert not list(checkpoints(tmp_path / "killed" / "checkpoints"))
    (state,) = (tmp_path / "killed" / "work").glob("*/state.pt")
    assert torch.load(state)["step"] == (1 if stage == "ppo" else 4)
    resumed = start(stage, toy_chain, tmp_path / "killed")
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert whole.manifest.probe == resumed.manifest.probe
    assert not list((tmp_path / "killed" / "work").iterdir())


@pytest.mark.unit
def test_ctrl_c_saves_the_step_and_the_second_one_does_not_wait(tmp_path: Path) -> None:
    config = toy.pretrain_config(tmp_path)
    done = []

    def interrupted() -> None:
        with runs.Run(tmp_path, "x", config, []) as run:
            run.resume()
            for step in run.steps(5, "x"):
                done.append(step)
                if step == 2:
                    signal.raise_signal(signal.SIGINT)

    def interrupted_twice() -> None:
        with runs.Run(tmp_path, "y", config, []):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append(-1)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with runs.Run(tmp_path, "x", config, []) as again:
        again.resume()
        done += again.steps(5, "x")
    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.unit
def test_the_same_run_twice_at_once_is_refused(tmp_path: Path) -> None:
    config = toy.pretrain_config(tmp_path)
    with (
        runs.Run(tmp_path, "x", config, ["data"]),
        pytest.raises(UserError, match="in progress"),
        runs.Run(tmp_path, "x", config, ["data"]),
    ):
        pass
    with runs.Run(tmp_path, "x", config, ["data"]), runs.Run(tmp_path, "x", config, ["other data"]):
        pass


@pytest.mark.unit
def test_chance_depends_on_names_alone() -> None:
    assert runs.rng_for(0, "a").random() == runs.rng_for(0, "a").random()
    assert runs.rng_for(0, "a").random() != runs.rng_for(1, "a").random()


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    for _ in range(2400):
        if condition():
            return
        assert process.poll() is None, "the command ended early"
        time.sleep(0.05)
    raise AssertionError("nothing happened")


@pytest.fixture
def slow_command(toy_home: Path, tmp_path: Path) -> list[str]:
    """A pretraining command of some seconds that saves its state all the time."""
    code = (
        "import sys; from training.runtime import runs; from training.stages import pretrain;"
        "from training.artifacts.errors import run_command;"
        "runs.SAVE_SECONDS = 0.0; sys.exit(run_command(lambda: pretrain.main(sys.argv[1:])))"
    )
    options = {
        "data": toy_home / "text.jsonl",
        "tokenizer": toy_home / "tokenizer" / "default",
        "layout": "documents",
        "hidden-size": 16,
        "layers": 1,
        "heads": 2,
        "feed-forward": 32,
        "context": 32,
        "tokens": 60_000,
        "batch-tokens": 100,
        "home": tmp_path,
    }
    return [sys.executable, "-c", code, *(f"--{name}={value}" for name, value in options.items())]


@pytest.mark.integration
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_signals_leave_no_half_checkpoint_and_the_same_command_works(
    slow_command: list[str], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(slow_command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    wait_for(lambda: list(tmp_path.glob("work/*/state.pt")), process)
    process.send_signal(number)
    assert process.wait(60) == status
    assert not list(tmp_path.glob("checkpoints/*"))
    again = subprocess.run(slow_command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "resumes from step" in again.stderr
    assert [c.id for c in checkpoints(tmp_path / "checkpoints")] == [again.stdout.split()[-1]]
    assert not list(tmp_path.glob("work/*"))


def test_a_full_disk_is_one_sentence_and_leaves_the_state_before(
    tmp_path: Path,
) -> None:
    model = torch.nn.Linear(300, 300)
    with pytest.raises(UserError, match=r"cannot be written to .*work/sft-.* \(.+\): make room there and run"):
        save_twice(model, tmp_path)
    (folder,) = (tmp_path / "work").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["lock", "state.pt"]
    other = torch.nn.Linear(300, 300)
    with runs.Run(tmp_path, "sft", Settings(), []) as run:
        run.resume(model=other)
        assert run.start == 1
    assert torch.equal(model.weight, other.weight)


def save_twice(model: torch.nn.Module, home: Path) -> None:
    """The second time without room: a limit on the size of files stands for a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with runs.Run(home, "sft", Settings(), []) as run:
        run.resume(model=model)
        run.save(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            run.save(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
