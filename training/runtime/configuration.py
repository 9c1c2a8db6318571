"""Command lines and TOML presets for frozen configuration dataclasses.

Texts of a configuration may hold `{home}` (the home folder), `{world}` (the folder of the miniature world) and
`{world_name}` (that folder's name). They are replaced here, once, so that a preset works in any home with any seed.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from training.artifacts.errors import UserError
from training.miniature.world import world_name

PRESETS = Path(__file__).parent.parent / "presets"
STAGES = {
    "tokenizer": "train a tokenizer on text",
    "pretrain": "train a base model on text",
    "sft": "fine-tune on demonstrations",
    "sample": "sample K responses a prompt for ranking",
    "reward": "train a reward model on comparisons",
    "ppo": "train a policy against a reward model, with or without pretraining gradients",
    "adopt": "give any Hugging Face checkpoint a manifest",
}
COMMANDS = {
    "data": "check a data file and report what would be used",
    "world": "make the miniature world's files",
    "demo": "the first turn of the loop on the miniature world, then serve",
    "loop": "one turn of the loop from the rankings of the running service",
}
TABLES = STAGES | COMMANDS  # tables of a preset
COMMON = ("seed", "home")  # keys outside every table hold for all stages that have them
Config = TypeVar("Config")


def parse(cls: type[Config], stage: str, arguments: Sequence[str]) -> Config:
    """Build a stage's configuration: defaults, then the preset's table [stage], then the command line.

    `--preset NAME` names a file in training/presets or a path to a TOML file.

    Raises:
        UserError: unknown preset, unknown key or wrong type in it.
    """
    preset, rest = _take_preset(list(arguments))
    default = from_preset(cls, stage, preset) if preset else None
    kwargs: dict[str, Any] = {} if default is None else {"default": default}
    config = tyro.cli(cls, args=rest, prog=f"python -m training {stage}", description=cls.__doc__, **kwargs)
    # A command that runs stages has its preset as a field, with a default.
    preset = getattr(config, "preset", preset)
    return _with_places(config, _read(preset) if preset else {})


def _with_places(config: Config, preset: Mapping[str, Any]) -> Config:
    """`config` with the placeholders of its texts replaced.

    The world's size and seed are those of the preset's table [world]; without a seed there, the command's own seed.
    """
    world: Mapping[str, Any] = preset.get("world", {})
    home = str(getattr(config, "home", "runs"))
    name = world_name(world.get("size", "demo"), world.get("seed", getattr(config, "seed", 0)))
    places = {"{home}": home, "{world}": f"{home}/world/{name}", "{world_name}": name}

    def placed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(placed, value))
        if isinstance(value, str):
            for place, text in places.items():
                value = value.replace(place, text)
        return Path(placed(str(value))) if isinstance(value, Path) else value

    fields = dataclasses.fields(config)  # type: ignore[arg-type]  # every stage's config is a dataclass
    changed = {f.name: placed(getattr(config, f.name)) for f in fields if f.name != "home"}
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]  # the same


def from_preset(cls: type[Config], stage: str, preset: str) -> Config:
    """The configuration of one stage from a preset's table [stage]; keys outside every table hold for all stages."""
    path, table = preset_file(preset), _read(preset)
    stray = sorted(k for k, v in table.items() if isinstance(v, dict) and k not in TABLES)
    stray += sorted(k for k, v in table.items() if not isinstance(v, dict) and (k in TABLES or k not in COMMON))
    if stray:
        raise UserError(
            f"{path}: `{stray[0]}` belongs nowhere: tables are {', '.join(TABLES)}; outside tables {', '.join(COMMON)}"
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # every stage's config is a dataclass
    common = {k: v for k, v in table.items() if not isinstance(v, dict) and k in fields}
    chosen = table.get(stage, {})
    unknown = sorted(set(chosen) - set(fields))
    if unknown:
        raise UserError(f"{path}: unknown key `{unknown[0]}` in [{stage}] (known: {', '.join(fields)})")
    values = {name: _convert(path, stage, fields[name], value) for name, value in (common | chosen).items()}
    required = [
        f.name for f in fields.values() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing: dict[str, Any] = {name: tyro.MISSING for name in required if name not in values}
    # The commands that run other stages hand the preset on.
    name = {"preset": preset} if "preset" in fields else {}
    return cls(**(values | missing | name))


def _read(preset: str) -> dict[str, Any]:
    """A preset's tables. Raises `UserError` where it is no TOML."""
    path = preset_file(preset)
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def preset_file(preset: str) -> Path:
    """File of a preset, by name or path. Raises `UserError` where there is none."""
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise UserError(f"no preset {preset!r}: use one of {known}, or the path of a .toml file")
    return path


def _convert(path: Path, stage: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """Give a TOML value the field's type, refusing one of another type."""
    kind = str(field.type)
    if "Path" in kind and isinstance(value, str):
        return Path(value)
    if "tuple" in kind and isinstance(value, list):
        return tuple(value)
    if "float" in kind and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = any(
        name in kind and isinstance(value, cls) and (cls is not int or not isinstance(value, bool))
        for name, cls in (("int", int), ("float", float), ("bool", bool), ("str", str), ("Literal", str))
    )
    if not fits:
        raise UserError(f"{path}: `{field.name}` in [{stage}] must be {kind}, not {value!r}")
    return value


def _take_preset(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Split `--preset NAME` (or `--preset=NAME`) off the other arguments."""
    for index, argument in enumerate(arguments):
        if argument == "--preset":
            if index + 1 == len(arguments):
                raise UserError("--preset needs a name, such as demo")
            return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
        if argument.startswith("--preset="):
            return argument.removeprefix("--preset="), arguments[:index] + arguments[index + 1 :]
    return None, arguments
