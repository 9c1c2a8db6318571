"""vLLM's own engine for rollouts against transformers: weights that arrive, log-probabilities, seeds, ends."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.support import tiny_ppo
from training.artifacts.errors import UserError
from training.models import exporting, forward, loading, lora
from training.rl.engine import Engine, EngineFailure
from training.rl.rollouts import Sampling, generate
from training.stages import planning, ppo, rollout_options
from training.stages.engine_rollouts import EngineRollouts

pytestmark = pytest.mark.integration
PROMPTS = [[0, 3, 264, 265, 4], [0, 3, 265, 266, 267, 268, 4], [0, 3, 4], [0, 3, 261, 4]]
MAX_TOKENS = 12
GREEDY = Sampling(0.0, MAX_TOKENS, (0,), seed=0)


def policy_of(folder: Path, kind: str) -> Any:
    """A policy whose exports have one architecture: `untied`, `tied`, or tied with adapters, `lora`."""
    checkpoint, _ = tiny_ppo.make_home(folder, tied=kind != "untied")
    model = loading.load(checkpoint.id, folder).model
    assert model.config.tie_word_embeddings == (kind != "untied")
    if kind == "lora":
        lora.add(model, 4, 8.0, seed=0)
    return model


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return policy_of(tmp_path_factory.mktemp("untied"), "untied")


@pytest.fixture(scope="module")
def engine(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all tests of this file: each brings its own weights."""
    folder = tmp_path_factory.mktemp("engine")
    longest = max(map(len, PROMPTS))
    plan = rollout_options.plan_engine((), [planning.Trained(policy)], longest, MAX_TOKENS, 64)
    assert plan is not None
    with Engine(policy, plan, 1, folder / "engine.log", folder) as engine:
        yield engine


def change(model: Any, seed: int) -> None:
    """Move every trained weight, as an iteration does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("kind", ["untied", "tied", "lora"])
def test_greedy_text_and_log_probabilities_follow_every_sync(engine: Engine, tmp_path: Path, kind: str) -> None:
    model = policy_of(tmp_path, kind)
    config, texts = copy.deepcopy(model.config), []
    for seed in range(3):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        engine.sync(model)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        texts.append(engine.generate(PROMPTS, GREEDY).ids)
        assert texts[-1] == generate(model, PROMPTS, 1, GREEDY).ids
        sampled = engine.generate(PROMPTS, Sampling(0.7, MAX_TOKENS, (0,), seed))
        own = forward.response_logprobs(model, PROMPTS, sampled.ids, temperature=0.7)
        theirs = forward.pad_right(sampled.logprobs, 0.0, torch.float32)
        torch.testing.assert_close(theirs, own.detach(), atol=1e-4, rtol=1e-4)
        change(model, seed)
    assert texts[0] != texts[1] != texts[2]
    assert model.config.to_dict() == config.to_dict()


def test_nothing_of_a_sync_is_left_in_memory(engine: Engine, policy: Any) -> None:
    engine.sync(policy)
    assert {path.name for path in engine._ram.folder.iterdir()} == {"config.json", "lock"}


def test_seeds_and_places_decide_what_is_sampled(engine: Engine, policy: Any) -> None:
    engine.sync(policy)
    same = [PROMPTS[2]] * 8
    one, again, other = (engine.generate(same, Sampling(1.0, MAX_TOKENS, (0,), seed)) for seed in (3, 3, 4))
    assert one == again
    assert one.ids != other.ids
    assert len({tuple(ids) for ids in one.ids}) > 4  # eight rows of one prompt draw for themselves


def test_a_response_ends_with_its_stop_token_or_is_unfinished(engine: Engine, policy: Any) -> None:
    engine.sync(policy)
    stops = tuple(range(0, 540, 8))
    sampled = engine.generate(PROMPTS * 8, Sampling(1.0, 6, stops, seed=2))
    assert sampled.by_engine
    assert 0 < sum(sampled.finished) < len(sampled.ids)
    for ids, logprobs, finished in zip(sampled.ids, sampled.logprobs, sampled.finished, strict=True):
        assert len(ids) == len(logprobs)
        assert not set(stops) & set(ids[:-1])
        assert (ids[-1] in stops) == finished
        assert finished or len(ids) == 6


def test_samples_follow_the_distribution(engine: Engine, policy: Any) -> None:
    engine.sync(policy)
    sampled = engine.generate([PROMPTS[0]] * 2000, Sampling(1.0, 1, (), seed=5))
    expected = policy(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([ids[0] for ids in sampled.ids]), minlength=len(expected)) / 2000
    assert (counts - expected).abs().max().item() < 0.045  # four standard errors of a share of one half


def test_a_head_that_does_not_arrive_is_noticed(
    engine: Engine, policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with tied embeddings on a CPU, whose head keeps its old weights when others are loaded."""
    write = exporting._write

    def without_head(file: Path, tensors: dict[str, Any], dtype: torch.dtype) -> None:
        write(file, {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}, dtype)

    monkeypatch.setattr(exporting, "_write", without_head)
    change(policy, 7)
    rollouts = EngineRollouts(engine._plan, may_fall_back=False, folder=tmp_path)
    rollouts._engine = engine
    monkeypatch.setattr(engine, "close", lambda: None)
    with pytest.raises(UserError, match="samples from something else"):
        rollouts.respond(policy, PROMPTS, Sampling(1.0, MAX_TOKENS, (0,), seed=0))


def test_an_engine_that_is_killed_is_an_error_of_one_line(engine: Engine, policy: Any) -> None:
    """The last test of this engine."""
    os.kill(engine._process.pid, signal.SIGKILL)
    with pytest.raises(EngineFailure, match=r"ended with status -9 .* run the same command, which resumes"):
        engine.sync(policy)


def test_ppo_learns_from_an_engine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    policy, reward = tiny_ppo.make_home(tmp_path, tied=True)
    trained = ppo.train(tiny_ppo.config_of(tmp_path, model=policy.id, reward=reward.id, rollouts="vllm"))
    said = capfd.readouterr().err
    assert "rollouts: vLLM on the CPU, beside the training" in said
    assert "python -m training.rl.engine_process" in said
    assert "engine and trainer agree to" in said
    metrics = trained.manifest.metrics
    assert metrics["rollouts"] == "vllm"
    assert metrics["raw/sampler_gap"] < 1e-4
    assert metrics["published/sampler_gap"] < 1e-4  # the average's weights came to the engine too
    assert metrics["raw/importance_weight"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["raw/first_ratio_error"] < 1e-5
    assert trained.manifest.config["rollouts"] == "vllm"
    assert loading.load(trained.id, tmp_path).model.config.tie_word_embeddings


@pytest.mark.slow
def test_a_run_whose_engine_dies_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    policy, reward = tiny_ppo.make_home(tmp_path)
    config = tiny_ppo.config_of(tmp_path, model=policy.id, reward=reward.id, rollouts="vllm")
    respond = EngineRollouts.respond
    calls: list[EngineRollouts] = []
    pids: list[int] = []

    def dying(self: EngineRollouts, *arguments: Any) -> Any:
        calls.append(self)
        if len(calls) == 3 and self._engine is not None:  # measuring what is to be published
            pids.append(self._engine._process.pid)
            os.kill(pids[-1], signal.SIGKILL)
        return respond(self, *arguments)

    monkeypatch.setattr(EngineRollouts, "respond", dying)
    with pytest.raises(UserError, match="ended with status -9"):
        ppo.train(config)
    assert not Path(f"/proc/{pids[0]}").exists()
    trained = ppo.train(config)  # its state stayed: only the measurement is repeated
    assert "resumes from step 2" in capfd.readouterr().err
    assert len(calls) == 4
    assert trained.manifest.metrics["rollouts"] == "vllm"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_engine_outlives_a_run(tmp_path: Path, number: signal.Signals) -> None:
    policy, reward = tiny_ppo.make_home(tmp_path)
    command = [
        sys.executable, "-m", "training", "ppo", "--prompts", str(tmp_path / "prompts.jsonl"), "--model", policy.id,
        "--reward", reward.id, "--home", str(tmp_path), "--rollouts", "vllm", "--max-tokens", "12",
        "--batch", "8", "--minibatch", "4", "--iterations", "5000",
    ]  # fmt: skip
    with (tmp_path / "output").open("wb") as output:
        run = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + 300
    while "engine and trainer agree" not in (tmp_path / "output").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    engines = psutil.Process(run.pid).children(recursive=True)
    assert engines
    run.send_signal(number)
    assert run.wait(60) == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    _, alive = psutil.wait_procs(engines, timeout=20)
    assert not alive
    if number != signal.SIGKILL:
        assert not list(tmp_path.rglob("alignloop-*"))
        assert list((tmp_path / "work").glob("ppo-*/state.pt"))
