"""Presets and command lines become frozen configurations; mistakes in them are one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.errors import UserError
from training.runtime.configuration import parse

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Config:
    """A stage."""

    data: Path
    """Where the rows are."""
    learning_rate: float = 1e-3
    """Step size."""
    steps: int = 10
    """Optimizer steps."""
    seed: int = 0
    """Seed."""
    layers: tuple[int, ...] = (1, 2)
    """Sizes."""


def preset(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return str(file)


def test_command_line_beats_preset_beats_default(tmp_path: Path) -> None:
    name = preset(tmp_path, 'seed = 4\n[sft]\ndata = "rows"\nlearning_rate = 2\nsteps = 5\nlayers = [3]\n')
    got = parse(Config, "sft", ["--preset", name, "--steps", "7"])
    assert got == Config(data=Path("rows"), learning_rate=2.0, steps=7, layers=(3,), seed=4)
    assert isinstance(got.learning_rate, float)


@pytest.mark.parametrize(
    "text,words",
    [
        ("[sft]\nstepz = 5\n", "unknown key `stepz` in [sft]"),
        ("[sft]\nsteps = 'five'\n", "`steps` in [sft] must be int"),
        ("[sft]\nsteps = true\n", "`steps` in [sft] must be int"),
        ("[stage\n", "not valid TOML"),
        ("[sfft]\nsteps = 5\n", "`sfft` belongs nowhere"),
        ("sed = 1\n", "`sed` belongs nowhere"),
        ("ppo = 3\n", "`ppo` belongs nowhere"),
    ],
)
def test_a_wrong_preset_names_the_mistake(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Config, "sft", ["--preset", preset(tmp_path, text)])
    assert words in str(error.value)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="no preset 'nowhere': use one of"):
        parse(Config, "sft", ["--preset=nowhere"])


def test_a_required_field_may_come_from_the_command_line(tmp_path: Path) -> None:
    name = preset(tmp_path, "[sft]\nsteps = 5\n")
    assert parse(Config, "sft", ["--preset", name, "--data", "here"]).data == Path("here")
    with pytest.raises(SystemExit) as left:
        parse(Config, "sft", ["--preset", name])
    assert left.value.code == 2


@dataclass(frozen=True)
class Several:
    """A command that runs other stages."""

    preset: str = "demo"
    """Theirs."""


def test_a_command_that_runs_stages_hands_its_preset_on(tmp_path: Path) -> None:
    name = preset(tmp_path, "[sft]\nsteps = 3\n")
    assert parse(Several, "several", ["--preset", name]).preset == name
    assert parse(Several, "several", []).preset == "demo"


@dataclass(frozen=True)
class Placed:
    """A stage with files."""

    data: str = "{world}/pretrain.jsonl"
    """Text."""
    more: tuple[str, ...] = ("{home}/a", "b")
    """Files."""
    folder: Path = Path("{home}/c")
    """A folder."""
    name: str = "{world_name}"
    """A name."""
    seed: int = 0
    """Seed."""
    home: Path = Path("runs")
    """Where everything is written."""


def test_places_follow_home_and_seed_of_the_command_line(tmp_path: Path) -> None:
    name = preset(tmp_path, 'seed = 4\n[world]\nsize = "miniature"\n')
    got = parse(Placed, "sft", ["--preset", name, "--seed", "7", "--home", "/h"])
    assert (got.data, got.name) == ("/h/world/1-miniature-7/pretrain.jsonl", "1-miniature-7")
    assert (got.more, got.folder, got.home) == (("/h/a", "b"), Path("/h/c"), Path("/h"))
    assert parse(Placed, "sft", ["--preset", name]).data == "runs/world/1-miniature-4/pretrain.jsonl"
    assert parse(Placed, "sft", []).data == "runs/world/1-demo-0/pretrain.jsonl"


def test_a_world_of_its_own_seed_stays_while_the_runs_seed_changes(tmp_path: Path) -> None:
    name = preset(tmp_path, "[world]\nseed = 3\n")
    assert parse(Placed, "sft", ["--preset", name, "--seed", "7"]).name == "1-demo-3"


def test_every_stage_of_the_demo_reads_the_world_that_the_world_command_writes_whatever_the_seed() -> None:
    """The preset names no world by hand: what one command writes is what the next one reads."""
    from training.loop import demo, turn
    from training.loop.world import WorldConfig
    from training.stages import ppo, pretrain, reward, sample, sft, tokenizer

    def config(cls: type, stage: str) -> Any:
        return parse(cls, stage, ["--preset", "demo", "--seed", "7", "--home", "/h"])

    folder = str(parse(WorldConfig, "world", ["--preset", "demo", "--seed", "7", "--home", "/h"]).folder)
    assert folder == "/h/world/1-demo-7"
    trained = config(tokenizer.Config, "tokenizer")
    assert trained.data == f"{folder}/pretrain.jsonl"
    base = config(pretrain.Config, "pretrain")
    assert (base.data, base.validation) == (f"{folder}/pretrain.jsonl", f"{folder}/heldout.jsonl")
    assert base.tokenizer == f"/h/tokenizer/{trained.name}"
    assert config(sft.Config, "sft").data == f"{folder}/demonstrations.jsonl"
    sampled = config(sample.Config, "sample")
    assert (sampled.prompts, sampled.world) == (f"{folder}/prompts-reward.jsonl", folder)
    scorer = config(reward.Config, "reward")
    assert scorer.data == f"/h/comparisons/{sampled.name}.jsonl"
    assert scorer.validation == f"/h/comparisons/{sampled.name}-validation.jsonl"
    assert config(ppo.Config, "ppo").prompts == f"{folder}/prompts-ppo.jsonl"
    turned = config(turn.Config, "loop")
    assert turned.prompts == f"{folder}/prompts-collect.jsonl"
    assert turned.earlier == str(Path(scorer.data).parent)
    assert config(demo.Config, "demo").seed == 7
    for one in (trained, base, sampled, scorer, turned):
        assert "{" not in str(one)
