"""Presets and command lines become frozen configurations; mistakes in them are one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from training.artifacts.errors import UserError
from training.configuration import parse

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
    layers: tuple[int, ...] = (1, 2)
    """Sizes."""


def preset(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return str(file)


def test_command_line_beats_preset_beats_default(tmp_path: Path) -> None:
    name = preset(tmp_path, 'steps = 5\n[stage]\ndata = "rows"\nlearning_rate = 2\nlayers = [3]\n')
    got = parse(Config, "stage", ["--preset", name, "--steps", "7"])
    assert got == Config(data=Path("rows"), learning_rate=2.0, steps=7, layers=(3,))
    assert isinstance(got.learning_rate, float)


@pytest.mark.parametrize(
    "text,words",
    [
        ("[stage]\nstepz = 5\n", "unknown key `stepz` in [stage]"),
        ("[stage]\nsteps = 'five'\n", "`steps` in [stage] must be int"),
        ("[stage]\nsteps = true\n", "`steps` in [stage] must be int"),
        ("[stage\n", "not valid TOML"),
    ],
)
def test_a_wrong_preset_names_the_mistake(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Config, "stage", ["--preset", preset(tmp_path, text)])
    assert words in str(error.value)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="no preset 'nowhere': use one of"):
        parse(Config, "stage", ["--preset=nowhere"])


def test_a_required_field_may_come_from_the_command_line(tmp_path: Path) -> None:
    name = preset(tmp_path, "[stage]\nsteps = 5\n")
    assert parse(Config, "stage", ["--preset", name, "--data", "here"]).data == Path("here")
    with pytest.raises(SystemExit) as left:
        parse(Config, "stage", ["--preset", name])
    assert left.value.code == 2
