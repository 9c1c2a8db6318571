"""Command lines and TOML presets for frozen configuration dataclasses.

Texts of a configuration may hold `{home}` (the home folder), `{world}` (the folder of the miniature world) and
`{world_name}` (that folder's name). They are replaced here, once, so that a preset works in any home with any seed.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from training.artifacts.errors import UserError
from training.artifacts.files import exists
from training.miniature.world import world_name

PRESETS = Path(__file__).parent.parent / "presets"
STAGES = {
    "tokenizer": "train a tokenizer on text",
    "pretrain": "train a base model on text",
    "sft": "fine-tune on demonstrations",
    "sample": "sample K responses per prompt for ranking",
    "reward": "train a reward model on comparisons",
    "ppo": "train a policy against a reward model, with or without pretraining gradients",
    "dpo": "train a policy on comparisons, without a reward model",
    "adopt": "give any Hugging Face checkpoint a manifest",
}
COMMANDS = {
    "data": "check a data file and report what would be used",
    "world": "make the miniature world's files",
    "demo": "the first turn of the loop on the miniature world, then serve",
    "loop": "one turn of the loop from the rankings of the running service",
    "real": "the loop on a real language model with human comparisons, then serve",
    "accuracy": "held-out accuracy of a reward model, beside length alone",
    "drift": "reward and KL of policies on held-out prompts",
    "push": "copy checkpoints into an object store",
    "pull": "copy checkpoints from an object store, or list those that it has",
    "clean": "list what stopped runs left, and delete it on request",
}
TABLES = STAGES | COMMANDS  # tables of a preset
COMMON = ("seed", "home")  # keys outside every table hold for all stages that have them
PRESET_HELP = (
    "--preset NAME reads the stage's table of training/presets/NAME.toml (or of a path that ends in .toml); "
    "options given here override it."
)


class Dataclass(Protocol):
    """An instance of any dataclass, as the functions of `dataclasses` take it."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Config = TypeVar("Config", bound=Dataclass)


def parse(cls: type[Config], stage: str, arguments: Sequence[str]) -> Config:
    """Build a stage's configuration: defaults, then the preset's table [stage], then the command line.

    `--preset NAME` names a file in training/presets or a path to a TOML file.

    Raises:
        UserError: unknown preset, unknown key or wrong type in it.
    """
    preset, rest = _take_preset(list(arguments))
    default = from_preset(cls, stage, preset) if preset else None
    kwargs: dict[str, Any] = {} if default is None else {"default": default}
    description = f"{cls.__doc__}\n\n{PRESET_HELP}"
    # Of several processes the first one says what is wrong with an option.
    with redirect_stderr(io.StringIO()) if os.environ.get("RANK", "0") != "0" else nullcontext():
        config: Config = tyro.cli(cls, args=rest, prog=f"python -m training {stage}", description=description, **kwargs)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"--{field.name.replace('_', '-')} {number} is not a finite number: use another")
        if field.name == "seed" and not -(2**63) <= value < 2**63:  # torch takes no other
            raise UserError(f"--seed {value} has more than 64 bits: use a smaller one")
    # A command that runs stages has its preset as a field, with a default.
    preset = getattr(config, "preset", preset)
    return _fill_placeholders(config, _read(preset) if preset else {})


def _fill_placeholders(config: Config, preset: Mapping[str, Any]) -> Config:
    """`config` with the placeholders of its texts replaced.

    The world's size and seed are those of the preset's table [world]; without a seed there, the command's own seed.
    """
    world: Mapping[str, Any] = preset.get("world", {})
    home = str(getattr(config, "home", "runs"))
    name = world_name(world.get("size", "demo"), world.get("seed", getattr(config, "seed", 0)))
    values = {"{home}": home, "{world}": f"{home}/world/{name}", "{world_name}": name}

    def fill(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(fill, value))
        if isinstance(value, str):
            for placeholder, text in values.items():
                value = value.replace(placeholder, text)
        return Path(fill(str(value))) if isinstance(value, Path) else value

    fields = dataclasses.fields(config)
    changed = {f.name: fill(getattr(config, f.name)) for f in fields if f.name != "home"}
    return dataclasses.replace(config, **changed)


def from_preset(cls: type[Config], stage: str, preset: str) -> Config:
    """The configuration of one stage from a preset's table [stage]; keys outside every table hold for all stages."""
    path, table = preset_file(preset), _read(preset)
    stray = sorted(k for k, v in table.items() if isinstance(v, dict) and k not in TABLES)
    stray += sorted(k for k, v in table.items() if not isinstance(v, dict) and (k in TABLES or k not in COMMON))
    if stray:
        raise UserError(
            f"{path}: `{stray[0]}` is not a known table or key: tables are {', '.join(TABLES)}; "
            f"outside tables {', '.join(COMMON)}"
        )
    for key, kind in (("size", str), ("seed", int)):  # every stage names its files by them
        if key in table.get("world", {}):
            _convert(path, "world", key, kind, table["world"][key])
    fields = {f.name: f for f in dataclasses.fields(cls)}
    common = {k: v for k, v in table.items() if not isinstance(v, dict) and k in fields}
    own = table.get(stage, {})
    unknown = sorted(set(own) - set(fields))
    if unknown:
        raise UserError(f"{path}: unknown key `{unknown[0]}` in [{stage}] (known: {', '.join(fields)})")
    types = get_type_hints(cls)
    values = {name: _convert(path, stage, name, types[name], value) for name, value in (common | own).items()}
    required = [
        f.name for f in fields.values() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing: dict[str, Any] = {name: tyro.MISSING for name in required if name not in values}
    # The commands that run other stages hand the preset on.
    name = {"preset": preset} if "preset" in fields else {}
    return cls(**(values | missing | name))


def _read(preset: str) -> dict[str, Any]:
    """A preset's tables. Raises `UserError` where it is not TOML."""
    path = preset_file(preset)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def preset_file(preset: str) -> Path:
    """File of a preset, by name or path. Raises `UserError` where there is none."""
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    if not (exists(path) and path.is_file()):
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise UserError(f"no preset {preset!r}: use one of {known}, or the path of a .toml file")
    return path


def _convert(path: Path, stage: str, name: str, kind: Any, value: Any) -> Any:
    """Give a TOML value the field's type, refusing one of another type."""
    try:
        return _as_type(kind, value)
    except _WrongTypeError:
        raise UserError(f"{path}: `{name}` in [{stage}] must be {_type_name(kind)}, not {value!r}") from None


class _WrongTypeError(Exception):
    """A value is not of the type."""


def _as_type(kind: Any, value: Any) -> Any:
    """`value`, as TOML gives it, as the type of an annotation. Raises `_WrongTypeError` where it is of another one."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        # True == 1 and 1 == 1.0, hence the types.
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
    elif origin in (Union, UnionType):
        for member in sorted(arguments, key=lambda member: member is not type(value)):  # the value's own type first
            try:
                return _as_type(member, value)
            except _WrongTypeError:
                continue
    elif origin is tuple and arguments == (str, ...) and isinstance(value, str):
        return (value,)  # a single source of data
    elif origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            return tuple(_as_type(arguments[0], item) for item in value)
        if len(value) == len(arguments):
            return tuple(_as_type(member, item) for member, item in zip(arguments, value, strict=True))
    elif origin is list and isinstance(value, list):
        return [_as_type(arguments[0], item) for item in value]
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif kind is float and type(value) is int:
        return float(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    raise _WrongTypeError


def _type_name(kind: Any) -> str:
    """A type as the message says it: `int`, `a list of int`, `one of 'auto', 'reward'`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(_type_name(member) for member in arguments if member is not type(None))
    if origin is tuple and arguments[-1] is not Ellipsis:
        return "a list of " + ", ".join(map(_type_name, arguments))
    if origin in (tuple, list):
        return f"a list of {_type_name(arguments[0])}"
    return "a path" if kind is Path else getattr(kind, "__name__", str(kind))


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
