"""`python -m training real` on a tiny random model: its steps, what it refuses, and what a second run does again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import human_files
from training.artifacts import checkpoints, processes
from training.artifacts.comparisons import SIMULATED, Comparison, Response
from training.artifacts.errors import UserError
from training.loop import next_turn, real, real_report
from training.loop.real import Config, Steps
from training.runtime.configuration import parse


def config_of(folder: Path, *options: str) -> Config:
    model = folder / "model"
    if not model.is_dir():
        human_files.save_model(model)
    files = human_files.write(folder)
    return parse(Config, "real", [*human_files.arguments(files, model, folder / "home"), *options])


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


FIGURES: dict[str, Any] = {
    "model": "tiny", "base": "adopt-1", "reward": "reward-1", "policies": ["dpo-1", "dpo-2"],
    "published": {"piqa": 66.3},
    "accuracy": {"pairs": 400, "length_baseline": "longer", "accuracy": figure(0.6), "length_accuracy": figure(0.5),
                 "difference": figure(0.1)},
    "drift": {"prompts": 64, "policies": {
        "adopt-1": {"reward": figure(0.0), "finished": 0.5},
        "dpo-1": {"reward": figure(1.0), "gain": figure(1.0), "kl": figure(3.0), "finished": 1.0}}},
    "evaluation": {
        "models": {"a": {"checkpoint": "adopt-1"}, "d": {"checkpoint": "dpo-1"}},
        "metrics": {
            "a": {"tax.piqa.accuracy_by_characters": figure(0.62) | {"n": 200},
                  "truthfulqa.choices.mc1": {"value": None, "low": None, "high": None, "n": 0}},
            "d": {"tax.piqa.accuracy_by_characters": figure(0.61) | {"n": 200}}}},
    "minutes": {"open": 3.0},
}  # fmt: skip
NEXT: dict[str, Any] = {
    "stand_in": {"agreement": 0.62, "pairs": 100, "trained_on": 455},
    "next": {"policy": "dpo-2", "rankings": 24, "simulated": 24, "used": 20},
}


@pytest.mark.unit
def test_the_report_has_every_figure_with_its_interval(tmp_path: Path) -> None:
    text = real_report.write(tmp_path, FIGURES, {"reward-1": 90.0}).read_text()
    assert "| orders them as people did | 60.0 [50.0, 70.0] |" in text
    assert "| paired difference | 10.0 [0.0, 20.0] |" in text
    assert "| dpo-1 | 1.00 [0.90, 1.10] | 1.00 [0.90, 1.10] | 3.00 [2.90, 3.10] | 100 % |" in text
    assert "| PIQA, 0-shot, by characters | 200 | 66.3 | 62.0 [52.0, 72.0] | 61.0 [51.0, 71.0] |" in text
    assert "| TruthfulQA, MC1 | 0 |  | not measured | not measured |" in text
    assert "| reward-1 | 1.5 |" in text
    assert "imulated" not in text


@pytest.mark.unit
def test_the_report_says_first_what_is_simulated(tmp_path: Path) -> None:
    text = real_report.write(tmp_path, FIGURES | NEXT, {}).read_text()
    assert "**Simulated**: 24 rankings of the next turn are of a stand-in labeler, not of people" in text
    assert text.index("Simulated") < text.index("|")
    assert json.loads((tmp_path / "real.json").read_text())["next"]["simulated"] == 24


@pytest.mark.unit
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--next", "--check"], "--check trains the next turn too: leave --next out"),
        (["--rankings", "19"], "--rankings 19: the next turn needs at least 20"),
        (["--eval-data", "boolq=x.jsonl"], "--eval-data boolq=x.jsonl is not one of hellaswag=FILE, piqa=FILE"),
    ],
)
def test_contradictions_are_one_sentence(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        real.real(config_of(tmp_path, *options))


@pytest.mark.unit
def test_a_next_turn_needs_a_first_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no first turn with these options: run `make real` first"):
        real.real(config_of(tmp_path, "--next"))


@pytest.mark.unit
def test_a_step_is_another_one_with_another_command_or_preset(tmp_path: Path) -> None:
    steps = Steps(config_of(tmp_path))
    one = steps.name("dpo", steps.stage("dpo", "--model", "a"))
    assert one == steps.name("dpo", steps.stage("dpo", "--model", "a"))
    assert one != steps.name("dpo", steps.stage("dpo", "--model", "b"))
    preset = steps.config.preset
    head, _, dpo = Path(preset).read_text().partition("[dpo]")
    reward = steps.name("reward", steps.stage("reward", "--model", "a"))
    Path(preset).write_text(f"{head}[dpo]{dpo.replace('1e-3', '2e-3')}")
    changed = Steps(steps.config)
    assert changed.name("dpo", steps.stage("dpo", "--model", "a")) != one
    assert changed.name("reward", steps.stage("reward", "--model", "a")) == reward


@pytest.mark.integration
def test_steps_train_and_measure_and_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path)
    steps = Steps(config)
    base, files = real.adopt(steps), real.prepare(config)
    turn = real.train(steps, base, files)
    store = config.home / "checkpoints"
    policy = checkpoints.resolve(turn.policies[0], store).manifest
    assert (policy.stage, policy.parents) == ("dpo", (base,))
    assert "simulated_comparisons" not in policy.metrics
    drift = real.measure_drift(steps, turn, files)
    assert set(drift["policies"]) == {base, turn.policies[0]}

    # The next turn, on rankings of which some are simulated: its manifest says how many.
    rows = [
        Comparison(
            f"r{n}", ({"role": "user", "content": f"what of {n}"},), (Response("one"), Response("two")), (1, 2),
            labeler_group=SIMULATED if n < 8 else None, prompt_id=str(n),
        )
        for n in range(24)
    ]  # fmt: skip
    following = checkpoints.resolve(next_turn.train_on(steps, turn, rows), store).manifest
    assert following.parents == (policy.id,)
    assert following.metrics["simulated_comparisons"] == 8
    assert following.metrics["training_comparisons"] == 24

    # A second run starts no command.
    monkeypatch.setattr(processes, "start", lambda *_, **__: pytest.fail("a step ran again"))
    again = Steps(config)
    assert real.adopt(again) == base
    later = real.train(again, base, files)
    assert later.policies == (*turn.policies, following.id)
    assert real.measure_drift(again, turn, files) == drift


@pytest.mark.integration
@pytest.mark.slow
def test_ppo_takes_text_in_the_first_turn_and_a_reward_model_of_both_in_the_next(tmp_path: Path) -> None:
    config = config_of(tmp_path, "--method", "ppo")
    steps = Steps(config)
    turn = real.train(steps, real.adopt(steps), real.prepare(config))
    store = config.home / "checkpoints"
    policy = checkpoints.resolve(turn.policies[0], store).manifest
    assert policy.stage == "ppo-ptx"
    assert policy.config["pretraining_data"] == [str(tmp_path / "text.txt")]

    rows = [
        Comparison(f"r{n}", ({"role": "user", "content": f"what of {n}"},), (Response("one"), Response("two")), (1, 2))
        for n in range(20)
    ]
    following = checkpoints.resolve(next_turn.train_on(steps, turn, rows), store).manifest
    assert following.stage == "ppo"
    reward = checkpoints.resolve(steps.results[next(n for n in steps.results if n.startswith("next-reward"))], store)
    assert reward.id in following.parents
    assert policy.id in following.parents
    human = checkpoints.resolve(turn.reward, store).manifest.metrics["training_comparisons"]
    assert reward.manifest.metrics["training_comparisons"] == human + 20
