"""Presets and command lines become frozen configurations; mistakes in them are one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

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
    layout: Literal["packed", "documents"] = "packed"
    """How rows are laid out."""
    level: Literal[1, 2] = 1
    """A number out of two."""
    pair: tuple[str, float] = ("a", 1.0)
    """A name and a number."""
    limit: int | None = None
    """Rows at most."""
    template: Path | None = None
    """A file."""
    files: tuple[Path, ...] = ()
    """Files."""
    shuffle: bool = False
    """Another order."""
    name: str = ""
    """Any text."""
    either: int | str = 0
    """A number or a name."""
    home: Annotated[Path, "DIR"] = Path("runs")
    """Where everything is written."""


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
        ("[sft]\nsteps = 5.0\n", "`steps` in [sft] must be int, not 5.0"),
        ("[sft]\nlearning_rate = true\n", "`learning_rate` in [sft] must be float, not True"),
        ("[sft]\nlearning_rate = '1e-3'\n", "`learning_rate` in [sft] must be float"),
        ("[sft]\nlayout = 'document'\n", "`layout` in [sft] must be one of 'packed', 'documents', not 'document'"),
        ("[sft]\nlayout = 1\n", "`layout` in [sft] must be one of"),
        ("[sft]\nlevel = true\n", "`level` in [sft] must be one of 1, 2, not True"),
        ("[sft]\nlayers = [1, 'x']\n", "`layers` in [sft] must be a list of int, not [1, 'x']"),
        ("[sft]\nlayers = 1\n", "`layers` in [sft] must be a list of int, not 1"),
        ("[sft]\npair = ['a']\n", "`pair` in [sft] must be a list of str, float"),
        ("[sft]\nlimit = 'none'\n", "`limit` in [sft] must be int, not 'none'"),
        ("[sft]\ntemplate = 3\n", "`template` in [sft] must be a path, not 3"),
        ("[sft]\nshuffle = 1\n", "`shuffle` in [sft] must be bool, not 1"),
        ("[sft]\nname = 2026-01-31\n", "`name` in [sft] must be str"),
        ("[sft]\neither = 1.5\n", "`either` in [sft] must be int or str, not 1.5"),
        ("[sft.layers]\nx = 1\n", "`layers` in [sft] must be a list of int"),
        ("[stage\n", "not valid TOML"),
        ("[sfft]\nsteps = 5\n", "`sfft` is not a known table or key"),
        ("sed = 1\n", "`sed` is not a known table or key"),
        ("ppo = 3\n", "`ppo` is not a known table or key"),
    ],
)
def test_a_wrong_preset_names_the_mistake(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Config, "sft", ["--preset", preset(tmp_path, text)])
    assert words in str(error.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("layout = 'documents'", {"layout": "documents"}),
        ("level = 2", {"level": 2}),
        ("pair = ['b', 3]", {"pair": ("b", 3.0)}),
        ("limit = 7", {"limit": 7}),
        ("template = 'x.jinja'", {"template": Path("x.jinja")}),
        ("files = ['a', 'b']", {"files": (Path("a"), Path("b"))}),
        ("shuffle = true", {"shuffle": True}),
        ("either = 'x'", {"either": "x"}),
        ("either = 3", {"either": 3}),
        ("home = 'elsewhere'", {"home": Path("elsewhere")}),
    ],
)
def test_a_preset_s_values_get_the_field_s_type(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    config = parse(Config, "sft", ["--preset", preset(tmp_path, f"[sft]\ndata = 'rows'\n{text}\n")])
    values = {name: getattr(config, name) for name in expected}
    assert values == expected
    assert [type(v) for v in values.values()] == [type(v) for v in expected.values()]


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
