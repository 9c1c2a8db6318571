"""The engine's process, with vLLM stubbed: placement on a GPU, faults, and its end. The real one: `test_engine.py`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import tiny_ppo
from training.artifacts.errors import UserError
from training.models import loading
from training.rl.engine import Engine, EngineFailure
from training.rl.engine_settings import EnginePlan
from training.rl.rollouts import Sampling
from training.stages.engine_rollouts import EngineRollouts

pytestmark = pytest.mark.unit
STUB = Path(__file__).resolve().parents[2] / "support" / "stub_vllm"
SHARED = EnginePlan("cuda", torch.float32, 64, 4, 1_000_000, 1_000_000, gpu_bytes=10**10)
APART = replace(SHARED, gpus=(2,), gpu_bytes=0)
PROMPTS = [[0, 3, 4], [0, 3, 5, 4]]
SAMPLING = Sampling(1.0, 3, (0,), seed=7)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("engine")
    checkpoint, _ = tiny_ppo.make_home(home)
    return loading.load(checkpoint.id, home).model


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stub in place of vLLM; the file of its calls."""
    monkeypatch.setenv("PYTHONPATH", str(STUB))
    monkeypatch.setenv("STUB_VLLM_CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "calls"


def noted(calls: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in calls.read_text().splitlines()]


def start(policy: Any, plan: EnginePlan, folder: Path) -> Engine:
    return Engine(policy, plan, 1, folder / "engine.log", folder)


def test_on_a_shared_gpu_it_sleeps_between_syncs(policy: Any, calls: Path, tmp_path: Path) -> None:
    with start(policy, SHARED, tmp_path) as engine:
        for _ in range(2):
            engine.sync(policy)
            engine.generate(PROMPTS, SAMPLING)
            engine.rest()
    rows = noted(calls)
    assert [row["call"] for row in rows] == [
        "start", "update_config",
        "reload_weights", "reset_prefix_cache", "generate", "sleep",
        "wake_up", "reload_weights", "wake_up", "reset_prefix_cache", "generate", "sleep",
        "shutdown",
    ]  # fmt: skip
    assert rows[0]["gpus"] == "0"
    assert rows[0]["enable_sleep_mode"] is True
    assert [row["level"] for row in rows if row["call"] == "sleep"] == [2, 2]
    # Memory for weights comes before the weights, that of the cache after them: the export never stands beside both.
    assert [row["tags"] for row in rows if row["call"] == "wake_up"] == [["weights"], ["kv_cache"]]
    assert [row["files"] for row in rows if row["call"] == "reload_weights"] == [["model.safetensors"]] * 2


def test_on_gpus_of_its_own_it_never_sleeps(policy: Any, calls: Path, tmp_path: Path) -> None:
    with start(policy, APART, tmp_path) as engine:
        engine.sync(policy)
        engine.generate(PROMPTS, SAMPLING)
        engine.rest()
    rows = noted(calls)
    assert rows[0]["gpus"] == "2"
    assert not {"sleep", "wake_up"} & {row["call"] for row in rows}


def test_each_response_has_a_seed_of_its_own_that_depends_on_the_iteration(
    policy: Any, calls: Path, tmp_path: Path
) -> None:
    with start(policy, APART, tmp_path) as engine:
        engine.sync(policy)
        for seed in (1, 1, 2):
            engine.generate(PROMPTS, replace(SAMPLING, seed=seed))
    first, again, other = (row["seeds"] for row in noted(calls) if row["call"] == "generate")
    assert first == again
    assert len({*first, *other}) == 4


@pytest.mark.usefixtures("calls")
def test_an_engine_that_does_not_start_is_given_up_or_refused(
    policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUB_VLLM_FAULT", "start")
    with EngineRollouts(APART, True, tmp_path) as rollouts:
        assert rollouts.respond(policy, PROMPTS, SAMPLING) is None
        assert rollouts.is_given_up
    assert "this architecture is not supported" in " ".join(capsys.readouterr().err.split())
    with EngineRollouts(APART, False, tmp_path) as rollouts:
        with pytest.raises(UserError, match=r"--rollouts vllm: .* this architecture is not supported"):
            rollouts.respond(policy, PROMPTS, SAMPLING)
        # A run that went on without its engine is not one by vllm.
        with pytest.raises(UserError, match="resume it with --rollouts auto"):
            rollouts.load_state_dict({"is_given_up": True})


@pytest.mark.usefixtures("calls")
def test_an_engine_that_samples_from_something_else_is_given_up_or_refused(
    policy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with EngineRollouts(APART, True, tmp_path) as rollouts:
        assert rollouts.respond(policy, PROMPTS, SAMPLING) is None
        assert rollouts.respond(policy, PROMPTS, SAMPLING) is None
        assert rollouts.state_dict() == {"is_given_up": True}
    assert capsys.readouterr().err.count("samples from something else") == 1
    with (
        EngineRollouts(APART, False, tmp_path) as rollouts,
        pytest.raises(UserError, match=r"--rollouts vllm: after the first sync .* use --rollouts transformers"),
    ):
        rollouts.respond(policy, PROMPTS, SAMPLING)


@pytest.mark.usefixtures("calls")
def test_an_engine_that_ends_is_an_error_of_one_line(
    policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_VLLM_FAULT", "generate")
    with start(policy, APART, tmp_path) as engine:
        engine.sync(policy)
        with pytest.raises(EngineFailure, match=r"ended with status 9 .* run the same command, which resumes"):
            engine.generate(PROMPTS, SAMPLING)
        folder = engine._ram.folder
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.usefixtures("calls")
def test_a_fault_in_a_request_is_told_and_the_engine_goes_on(policy: Any, tmp_path: Path) -> None:
    with start(policy, APART, tmp_path) as engine:
        engine.sync(policy)
        with pytest.raises(EngineFailure, match="KeyError"):
            engine._ask("dance")
        assert len(engine.generate(PROMPTS, SAMPLING).ids) == 2


TRAINER = """
import json, sys, time
from training.artifacts import processes
engine = processes.start(["training.rl.engine_process", "{}"], capture=True, feed=True)
assert engine.stdout.readline() == "{}\\n"
requests = {"prompts": [], "seeds": [1], "temperature": 1.0, "max_tokens": 1, "stop_ids": []}
engine.stdin.write(json.dumps({"do": "generate", **requests}) + "\\n")
engine.stdin.flush()
print(engine.pid, flush=True)
time.sleep(60)
"""


def test_no_engine_outlives_a_killed_trainer(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that computes, and so does not notice that nobody asks any more."""
    monkeypatch.setenv("STUB_VLLM_FAULT", "hang")
    monkeypatch.setenv("PYTHONPATH", f"{STUB}:{STUB.parents[2]}")
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline())
    deadline = time.monotonic() + 20
    while "generate" not in calls.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    trainer.stdout.close()
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
