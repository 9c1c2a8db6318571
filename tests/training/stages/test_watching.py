"""PPO under watch: held-out prompts on the way, the best weights, a limit of the KL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from tests.training.runtime.test_runs import Killed, kill_in_step, weights
from tests.training.stages.test_ppo import config_of
from training.artifacts.errors import UserError
from training.models import loading
from training.models.memory import Budget
from training.rl.best import Best
from training.rl.ema import Ema
from training.runtime import metrics, runs
from training.stages import ppo

pytestmark = pytest.mark.unit


def settings(chain: Toy, home: Path, **changes: Any) -> ppo.Config:
    """Of a run of six iterations in a home of its own, measured on prompts of which four are its own, too."""
    prompts = [{"id": f"h{i}", "messages": toy.turns(toy.question(i))} for i in range(4)]
    others = [{"id": f"o{i}", "messages": toy.turns(f"is the {a} red ?")} for i, a in enumerate(toy.ANIMALS)]
    toy.write_jsonl(home / "held-out.jsonl", [*prompts, *others])
    watched = {"held_out_prompts": (str(home / "held-out.jsonl"),), "held_out_every": 2, "learning_rate": 3e-3}
    models = {"model": str(chain.policy.path), "reward": str(chain.reward.path), "home": home, "iterations": 6}
    return config_of(chain, **(models | watched | changes))


def held_out(home: Path) -> dict[int, float]:
    """Score on the held-out prompts by iteration, as logged."""
    (file,) = home.glob("tensorboard/ppo-*/metrics.jsonl")
    lines = [line for line in metrics.read(file) if "held_out/score" in line]
    return {line["step"]: line["held_out/score"] for line in lines}


def test_measuring_changes_no_weight_and_leaves_out_what_is_learned_from(
    toy_chain: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_home, home = tmp_path / "plain", tmp_path / "watched"
    plain_home.mkdir()
    home.mkdir()
    watched = ppo.train(settings(toy_chain, home))
    printed = " ".join("".join(capsys.readouterr()).split())
    plain = ppo.train(settings(toy_chain, plain_home, held_out_prompts=()))
    assert all(torch.equal(tensor, weights(watched)[name]) for name, tensor in weights(plain).items())
    assert list(held_out(home)) == [1, 3, 5]
    assert "held-out prompts: used 8 of 12 rows" in printed
    assert "4 x it is among the --prompts too" in printed
    assert watched.manifest.metrics["weights"] == "ema"


def test_the_best_weights_are_those_that_scored_best(toy_chain: Toy, tmp_path: Path) -> None:
    made = ppo.train(settings(toy_chain, tmp_path, publish="best", learning_rate=1e-2))
    scores = held_out(tmp_path)
    best = max(scores, key=lambda step: scores[step])
    assert made.manifest.metrics["published_iteration"] == best
    assert made.manifest.metrics["held_out/score"] == scores[best]
    # Trained to that iteration only, with the same rates and averages, they are the same weights.
    shorter_home = tmp_path / "shorter"
    shorter_home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo.watching.Watch, "judge", lambda self, model, iteration, kl, figures: iteration == best)
        patch.setattr(ppo.watching.Watch, "takes_best", lambda self: False)
        shorter = ppo.train(settings(toy_chain, shorter_home, publish="best", learning_rate=1e-2))
    assert shorter.manifest.metrics["optimizer_steps"] == 4 * (best + 1)
    assert shorter.manifest.metrics["episodes"] == 16 * (best + 1)
    assert all(torch.equal(tensor, weights(made)[name]) for name, tensor in weights(shorter).items())


def test_a_kl_beyond_the_limit_ends_the_run_with_the_best_from_before(toy_chain: Toy, tmp_path: Path) -> None:
    free, limited = tmp_path / "free", tmp_path / "limited"
    free.mkdir()
    limited.mkdir()
    ppo.train(settings(toy_chain, free, held_out_every=1, learning_rate=1e-2))
    (file,) = free.glob("tensorboard/ppo-*/metrics.jsonl")
    kls = [line["held_out/kl"] for line in metrics.read(file) if "held_out/kl" in line]
    assert kls[0] < kls[-1]
    limit = (kls[0] + max(kls)) / 2
    made = ppo.train(settings(toy_chain, limited, held_out_every=1, learning_rate=1e-2, kl_limit=limit))
    figures = made.manifest.metrics
    assert figures["held_out/kl"] <= limit
    assert figures["published_iteration"] < figures["kl_beyond_limit_at"] <= 5
    assert figures["optimizer_steps"] == 4 * (figures["kl_beyond_limit_at"] + 1)


def test_without_any_weights_within_the_limit_nothing_is_published(toy_chain: Toy, tmp_path: Path) -> None:
    config = settings(toy_chain, tmp_path, held_out_every=1, learning_rate=0.3, kl_limit=1e-6)
    for _ in range(2):  # the same command ends at once, without a step
        with pytest.raises(UserError, match=r"the KL was beyond --kl-limit 1e-06 before any weights were within it"):
            ppo.train(config)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_killed_run_under_watch_goes_on_to_the_same_bits(
    toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(runs, "SAVE_SHARE", 1e9)
    whole_home, killed_home = tmp_path / "whole", tmp_path / "killed"
    whole_home.mkdir()
    killed_home.mkdir()
    whole = ppo.train(settings(toy_chain, whole_home, publish="best"))
    with monkeypatch.context() as patch:
        kill_in_step(patch, 14)
        with pytest.raises(Killed):
            ppo.train(settings(toy_chain, killed_home, publish="best"))
    resumed = ppo.train(settings(toy_chain, killed_home, publish="best"))
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(whole).items())
    assert whole.manifest.metrics == resumed.manifest.metrics
    assert held_out(whole_home) == held_out(killed_home)


def test_of_equal_values_the_first_is_the_best() -> None:
    model, best = torch.nn.Linear(2, 1, bias=False), Best()
    taken = [best.take(model, step, value, {"score": value}) for step, value in enumerate((1.0, 0.5, 1.0, 2.0))]
    assert taken == [True, False, False, True]
    expected = model.weight.detach().clone()
    other = Best()
    other.load_state_dict(best.state_dict())
    with torch.no_grad():
        model.weight.zero_()
    other.copy_to(model)
    assert torch.equal(model.weight, expected)
    assert (other.step, other.figures) == (3, {"score": 2.0})


def test_the_average_is_applied_for_a_block_only() -> None:
    model = torch.nn.Linear(3, 1, bias=False)
    ema = Ema(model, 0.5)
    first = model.weight.detach().clone()
    ema.update(model)
    with torch.no_grad():
        model.weight += 1.0
    ema.update(model)
    own = model.weight.detach().clone()
    with ema.applied(model):
        torch.testing.assert_close(model.weight, first / 3 + (first + 1) * 2 / 3)
    assert torch.equal(model.weight, own)


@pytest.mark.parametrize("change", [{"held_out_every": 0}, {"kl_limit": 0.0}])
def test_settings_without_sense_are_refused(toy_chain: Toy, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"--held-out-every 0|--kl-limit 0\.0"):
        ppo.check(replace(config_of(toy_chain), **change))


def test_prompts_that_are_all_learned_from_are_refused(toy_chain: Toy, tmp_path: Path) -> None:
    same = str(toy_chain.home / "prompts.jsonl")
    with pytest.raises(UserError, match=r"every prompt of .* is among the --prompts too"):
        ppo.train(settings(toy_chain, tmp_path, held_out_prompts=(same,)))


def test_the_best_adapters_are_published_as_the_best_weights_are(toy_chain: Toy, tmp_path: Path) -> None:
    """With LoRA what is copied and put back are the adapters; the published weights have the best ones' figures."""
    config = settings(toy_chain, tmp_path, publish="best", lora_rank=2, learning_rate=5e-2)
    made = ppo.train(config)
    scores = held_out(tmp_path)
    assert made.manifest.metrics["published_iteration"] == max(scores, key=lambda step: scores[step])
    setup = ppo.prepare(replace(config, lora_rank=0))
    policy = loading.load(str(made.path), tmp_path).model
    setup = setup._replace(models=setup.models._replace(policy=policy))
    again = ppo.measure(setup, config, Budget(10_000), Budget(10_000), held_out=True)
    assert again["score"] == pytest.approx(made.manifest.metrics["held_out/score"], abs=1e-5)
    assert again["kl"] == pytest.approx(made.manifest.metrics["held_out/kl"], rel=1e-3, abs=1e-5)
