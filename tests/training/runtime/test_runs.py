"""Runs: resumed ones give the same bits, nothing half-written is left, the very same run starts once only."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from tests.training.stages.test_ppo import config_of
from training.artifacts import checkpoints as published
from training.artifacts.checkpoints import Checkpoint, checkpoints
from training.artifacts.errors import Stopped, UserError
from training.models import optimization
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
MEMORY_AND_PLACES = {
    "home",
    "tokens_per_pass",
    "checkpoint_activations",
    "log_to",
    "shard",
}  # fields that are not part of a run's key


def config_for(stage: str, chain: Toy, home: Path) -> Any:
    """Settings of a stage of the toy chain under another home, from the chain's checkpoints by path."""
    data, model = chain.home, str(chain.policy.path)
    quick: dict[str, Any] = {"learning_rate": 1e-3, "home": home}
    if stage == "pretrain":
        return replace(toy.pretrain_config(data), tokenizer=str(data / "tokenizer" / "default"), home=home)
    if stage == "sft":
        return sft.Config((str(data / "demonstrations.jsonl"),), model, batch=8, **quick)
    if stage == "reward":
        return reward.Config((str(data / "rankings.jsonl"),), model, batch=4, **quick)
    if stage == "dpo":
        return dpo.Config((str(data / "rankings.jsonl"),), model, batch=4, **quick)
    changes = {"iterations": 3, "ptx_coefficient": 0.3, "kl_target": 1.0}
    return config_of(chain, model=model, reward=(str(chain.reward.path),), home=home, **changes)


def start(stage: str, chain: Toy, home: Path, **changes: Any) -> Checkpoint:
    """Run a stage with the settings of `config_for`."""
    stages: dict[str, Any] = {"pretrain": pretrain, "sft": sft, "reward": reward, "dpo": dpo, "ppo": ppo}
    checkpoint: Checkpoint = stages[stage].train(replace(config_for(stage, chain, home), **changes))
    return checkpoint


def start_and_kill(stage: str, chain: Toy, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed after four steps; PPO in its second iteration."""
    with monkeypatch.context() as patch:
        kill_in_step(patch, 6 if stage == "ppo" else 4)
        with pytest.raises(Killed):
            start(stage, chain, home)


@pytest.mark.unit
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_goes_on_to_the_same_bits(
    stage: str, toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved_every_step: None
) -> None:
    whole = start(stage, toy_chain, tmp_path / "whole")
    start_and_kill(stage, toy_chain, tmp_path / "killed", monkeypatch)
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
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_is_the_same_with_less_memory_and_another_with_other_numbers(
    stage: str,
    toy_chain: Toy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saved_every_step: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = start(stage, toy_chain, tmp_path / "whole")
    start_and_kill(stage, toy_chain, tmp_path / "killed", monkeypatch)
    less: dict[str, Any] = {"tokens_per_pass": 40, "checkpoint_activations": True}
    if stage == "ppo":
        less["rollout_tokens"] = 60
    other_rate = start(stage, toy_chain, tmp_path / "killed", learning_rate=2e-3)
    printed = " ".join("".join(capsys.readouterr()).split())
    assert "is another run (--learning-rate 0.0" in printed
    assert not torch.equal(*(next(iter(weights(c).values())) for c in (whole, other_rate)))
    resumed = start(stage, toy_chain, tmp_path / "killed", **less)
    assert "resumes from step" in "".join(capsys.readouterr())
    for name, expected in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], expected, atol=2e-4, rtol=1e-3)


@pytest.mark.unit
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_not_part_of_the_key_is_declared(stage: str, toy_chain: Toy, tmp_path: Path) -> None:
    config = config_for(stage, toy_chain, tmp_path)
    outside = {f.name for f in fields(config)} - set(runs.key_fields(config))
    assert outside == MEMORY_AND_PLACES | ({"rollout_tokens", "rollout_devices"} if stage == "ppo" else set())


@pytest.mark.unit
@pytest.mark.parametrize("stage", STAGES)
def test_what_fails_after_the_last_step_takes_no_step_again(
    stage: str, toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved after the last step although no save was due: a full disk while publishing costs no training."""
    whole = start(stage, toy_chain, tmp_path / "whole")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(published, "publish", full)
        with pytest.raises(OSError, match="No space left"):
            start(stage, toy_chain, tmp_path / "failed")
    assert not list((tmp_path / "failed" / "checkpoints").glob("*"))
    kill_in_step(monkeypatch, 0)
    again = start(stage, toy_chain, tmp_path / "failed")
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(whole).items())
    assert whole.manifest.metrics == again.manifest.metrics


def spoil_gradient(monkeypatch: pytest.MonkeyPatch, call: int, model: int) -> None:
    """Put one NaN among the gradients of a model before the n-th optimizer step."""
    calls = iter(range(10**6))
    original = optimization.clip_gradients

    def spoiled(parts: Any, limit: float) -> float:
        if next(calls) == call:
            next(p for p in parts[model].parameters() if p.grad is not None).grad.view(-1)[0] = torch.nan
        return original(parts, limit)

    monkeypatch.setattr(optimization, "clip_gradients", spoiled)


@pytest.mark.unit
@pytest.mark.parametrize("stage, model", [*((stage, 0) for stage in STAGES), ("ppo", 1)])
def test_a_gradient_that_is_not_finite_stops_the_run_and_spoils_nothing(
    stage: str, model: int, toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved_every_step: None
) -> None:
    whole = start(stage, toy_chain, tmp_path / "whole")
    step = 6 if stage == "ppo" else 3
    with monkeypatch.context() as patch:
        spoil_gradient(patch, step, model)
        with pytest.raises(UserError, match=rf"step {step}: gradient_norm is nan, so nothing is published") as error:
            start(stage, toy_chain, tmp_path / "spoiled")
    assert not list((tmp_path / "spoiled").glob("checkpoints/*"))
    (folder,) = (tmp_path / "spoiled" / "work").iterdir()
    report = json.loads((folder / "not-finite.json").read_text())
    assert str(folder / "not-finite.json") in str(error.value)
    assert report["step"] == step
    assert report["figures"]["gradient_norm"] == "nan"
    rows = [number for numbers in report["rows"].values() for number in numbers]
    assert len(report["token_ids"]) >= len(rows) > 0
    assert all(isinstance(token, int) for row in report["token_ids"] for token in row)
    state = torch.load(folder / "state.pt")
    assert state["step"] == (1 if stage == "ppo" else step)
    resumed = start(stage, toy_chain, tmp_path / "spoiled")
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(whole).items())


@pytest.mark.unit
def test_a_model_whose_figures_are_not_finite_is_not_published(
    toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sft, "mean_loss", lambda *_: math.nan)
        with pytest.raises(UserError, match="validation_loss of the trained model is nan, so it is not published"):
            start("sft", toy_chain, tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


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

    def interrupted_twice(numbers: Sequence[signal.Signals]) -> None:
        with runs.Run(tmp_path, "y", config, []) as run:
            for _ in run.steps(5, "y"):
                for number in numbers:
                    signal.raise_signal(number)
                done.append(-1)

    def interrupted_outside_steps() -> None:
        with runs.Run(tmp_path, "z", config, []):
            signal.raise_signal(signal.SIGTERM)
            done.append(-1)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with runs.Run(tmp_path, "x", config, []) as again:
        again.resume()
        done += again.steps(5, "x")
    for numbers in ([signal.SIGINT] * 2, [signal.SIGTERM, signal.SIGINT], [signal.SIGINT, signal.SIGTERM]):
        with pytest.raises(Stopped) as stopped:
            interrupted_twice(numbers)
        assert stopped.value.number == numbers[1]
    with pytest.raises(Stopped):
        interrupted_outside_steps()
    assert done == [0, 1, 2, 3, 4]
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.unit
def test_a_run_that_ended_early_has_no_more_steps(tmp_path: Path) -> None:
    steps = []

    def start_and_die() -> None:
        with runs.Run(tmp_path, "x", Settings(), []) as run:
            run.resume()
            for step in run.steps(5, "x"):
                steps.append(step)
                if step == 2:
                    run.end()
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            start_and_die()
    assert steps == [0, 1, 2]


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
@pytest.mark.parametrize(
    "number, status",
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
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


@pytest.mark.unit
@pytest.mark.parametrize("cost", [0.01, 1.0, 7.0, 60.0])
def test_saving_takes_a_twentieth_of_the_time_at_most(
    cost: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of the test: steps of a second, saves of `cost` seconds. Extra are the first save, before which their
    cost is unknown, and the one after the last step."""
    now, saves = 0.0, []
    monkeypatch.setattr(runs.time, "monotonic", lambda: now)
    with runs.Run(tmp_path, "x", Settings(), []) as run:

        def save(step: int) -> None:
            nonlocal now
            saves.append(step)
            now += cost

        monkeypatch.setattr(run, "save", save)
        for _ in run.steps(5000, "x"):
            now += 1.0
    assert saves[-1] == 5000
    assert cost * (len(saves) - 2) <= 0.05 * now
    intervals = [later - earlier for earlier, later in pairwise([0, *saves])]
    assert max(intervals) <= max(30.0, 20 * cost) + 2


@pytest.mark.unit
def test_a_full_disk_is_one_sentence_and_leaves_the_state_before(
    tmp_path: Path,
) -> None:
    model = torch.nn.Linear(300, 300)
    with pytest.raises(UserError, match=r"cannot be written to .*work/sft-.* \(.+\): make room there and run"):
        save_twice(model, tmp_path)
    (folder,) = (tmp_path / "work").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["lock", "run.json", "state.pt"]
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
