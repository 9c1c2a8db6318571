"""The demo's commands: one seed everywhere, models by id, engines only for what needs one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from training.loop import demo
from training.loop.demo import Config, Steps

pytestmark = pytest.mark.unit


class Recorded(Steps):
    """Steps that note their commands instead of running them; a step's result is its name and seed."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.commands: dict[str, list[str]] = {}

    def run(self, steps: dict[str, Sequence[str]]) -> list[str]:
        self.commands |= {name: list(arguments) for name, arguments in steps.items()}
        self.results |= {name: f"{name}-{self.config.seed}" for name in steps}
        return [self.results[name] for name in steps]


def option(command: Sequence[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_every_stage_gets_the_seed_and_its_models_by_id(tmp_path: Path) -> None:
    steps = Recorded(Config(seed=7, home=tmp_path))
    demo._train(steps)
    assert list(steps.commands) == ["world", "tokenizer", "pretrain", "sft", "sample", "reward", "ppo-ptx", "ppo"]
    for command in steps.commands.values():
        assert option(command, "--seed") == "7"
        assert option(command, "--home") == str(tmp_path)
    models = {name: option(command, "--model") for name, command in steps.commands.items() if "--model" in command}
    assert models == {
        "sft": "pretrain-7", "sample": "sft-7", "reward": "sft-7", "ppo-ptx": "sft-7", "ppo": "sft-7"
    }  # fmt: skip
    assert option(steps.commands["ppo"], "--reward") == "reward-7"
    assert option(steps.commands["ppo"], "--ptx-coefficient") == "0"


def test_the_second_turn_has_the_first_ones_seed_and_sft_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Sequence[str]] = []
    monkeypatch.setattr(demo, "show", lambda arguments, environment=None: commands.append(arguments))
    steps = Recorded(Config(seed=7, home=tmp_path))
    demo._train(steps)
    demo._second_turn(steps, demo.Service("http://127.0.0.1:8000", "key"))
    (command,) = commands
    assert command[:2] == ["training", "loop"]
    assert (option(command, "--seed"), option(command, "--sft")) == ("7", "sft-7")


def test_two_seeds_in_one_home_remember_their_steps_apart(tmp_path: Path) -> None:
    assert Steps(Config(seed=0, home=tmp_path)).file != Steps(Config(seed=7, home=tmp_path)).file


def test_a_second_start_serves_only_what_aliases_name(tmp_path: Path) -> None:
    steps = Recorded(Config(home=tmp_path))
    demo._train(steps)
    assert demo._served(steps) == ["ppo-ptx-0", "sft-0", "reward-0", "ppo-0", "pretrain-0"]
    report = tmp_path / "reports" / "demo-ppo-ptx-0"
    report.mkdir(parents=True)
    (report / "table.json").write_text("{}")
    assert demo._served(steps) == ["ppo-ptx-0", "sft-0", "reward-0"]


def test_the_welcome_names_a_command_that_goes_on_with_this_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.loop.turn import Config as LoopConfig
    from training.runtime.configuration import parse

    steps = Recorded(Config(seed=7, home=tmp_path / "my home"))
    demo._train(steps)
    demo._welcome(steps, demo.Service("http://127.0.0.1:8000", "key"), tmp_path)
    line = next(line for line in capsys.readouterr().err.splitlines() if "next turn" in line)
    import shlex

    words = shlex.split(line.split("next turn")[1])
    assert words[:5] == ["ALIGNLOOP_KEY=key", ".venv/bin/python", "-m", "training", "loop"]
    config = parse(LoopConfig, "loop", words[5:])
    assert (config.seed, config.sft, config.labelers) == (7, "sft-7", "miniature")
    assert config.prompts == f"{tmp_path}/my home/world/3-demo-7/prompts-collect.jsonl"
