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
        ("[world]\nsize = 3\n", "`size` in [world] must be str, not 3"),
        ("[world]\nseed = 'x'\n", "`seed` in [world] must be int, not 'x'"),
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
    assert (got.data, got.name) == ("/h/world/3-miniature-7/pretrain.jsonl", "3-miniature-7")
    assert (got.more, got.folder, got.home) == (("/h/a", "b"), Path("/h/c"), Path("/h"))
    assert parse(Placed, "sft", ["--preset", name]).data == "runs/world/3-miniature-4/pretrain.jsonl"
    assert parse(Placed, "sft", []).data == "runs/world/3-demo-0/pretrain.jsonl"


def test_a_world_of_its_own_seed_stays_while_the_runs_seed_changes(tmp_path: Path) -> None:
    name = preset(tmp_path, "[world]\nseed = 3\n")
    assert parse(Placed, "sft", ["--preset", name, "--seed", "7"]).name == "3-demo-3"


def test_every_stage_of_the_demo_reads_the_world_that_the_world_command_writes_whatever_the_seed() -> None:
    """The preset names no world by hand: what one command writes is what the next one reads."""
    from training.loop import demo, turn
    from training.loop.world import WorldConfig
    from training.stages import ppo, pretrain, reward, sample, sft, tokenizer

    def config(cls: type, stage: str) -> Any:
        return parse(cls, stage, ["--preset", "demo", "--seed", "7", "--home", "/h"])

    folder = str(parse(WorldConfig, "world", ["--preset", "demo", "--seed", "7", "--home", "/h"]).folder)
    assert folder == "/h/world/3-demo-7"
    trained = config(tokenizer.Config, "tokenizer")
    assert trained.data == (f"{folder}/pretrain.jsonl",)
    base = config(pretrain.Config, "pretrain")
    assert (base.data, base.validation) == ((f"{folder}/pretrain.jsonl",), (f"{folder}/heldout.jsonl",))
    assert base.tokenizer == f"/h/tokenizer/{trained.name}"
    assert config(sft.Config, "sft").data == (f"{folder}/demonstrations.jsonl",)
    sampled = config(sample.Config, "sample")
    assert (sampled.prompts, sampled.world) == ((f"{folder}/prompts-reward.jsonl",), folder)
    scorer = config(reward.Config, "reward")
    assert scorer.data == (f"/h/comparisons/{sampled.name}.jsonl",)
    assert scorer.validation == (f"/h/comparisons/{sampled.name}-validation.jsonl",)
    assert config(ppo.Config, "ppo").prompts == (f"{folder}/prompts-ppo.jsonl",)
    turned = config(turn.Config, "loop")
    assert turned.prompts == f"{folder}/prompts-collect.jsonl"
    assert turned.earlier == str(Path(scorer.data[0]).parent)
    assert config(demo.Config, "demo").seed == 7
    for one in (trained, base, sampled, scorer, turned):
        assert "{" not in str(one)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=f"--learning-rate {value} is not a finite number"):
        parse(Config, "sft", ["--data", "rows", f"--learning-rate={value}"])


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_seed_that_torch_cannot_take_is_refused(value: int) -> None:
    with pytest.raises(UserError, match=f"--seed {value} has more than 64 bits"):
        parse(Config, "sft", ["--data", "rows", f"--seed={value}"])


def test_a_preset_of_a_name_that_no_file_can_have() -> None:
    with pytest.raises(UserError, match="no preset"):
        parse(Config, "sft", ["--preset", "a" * 300])


def test_a_preset_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    name = preset(tmp_path, "\ufeff[sft]\ndata = 'rows'\nsteps = 5\n")
    assert parse(Config, "sft", ["--preset", name]).steps == 5
