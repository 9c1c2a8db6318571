"""Presets and command lines become frozen configurations; mistakes in them are one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
