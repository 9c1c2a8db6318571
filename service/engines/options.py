"""vLLM options of one checkpoint's engines: a list of names, kept in the store beside the checkpoint's id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from service.store.models import EngineOptions, now
from training.artifacts.errors import UserError

# Name -> what it does; whole numbers are counts of GPUs. Everything else is a setting of the service, or vLLM's own.
NAMES = {
    "tool_call_parser": "vLLM's parser of tool calls, such as hermes",
    "reasoning_parser": "vLLM's parser of reasoning, such as qwen3",
    "quantization": "how weights are quantized as they load, such as fp8",
    "tensor_parallel_size": "GPUs that share each layer",
    "pipeline_parallel_size": "GPUs that share the layers",
    "data_parallel_size": "copies of the model behind one address",
}
SIZES = frozenset(name for name in NAMES if name.endswith("_size"))
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")
MOST = 1024  # of a size


def checked(options: Mapping[str, Any]) -> dict[str, str | int]:
    """Options by name, with sizes as whole numbers. Raises `UserError` for an unknown name or a wrong value."""
    result: dict[str, str | int] = {}
    for name, value in options.items():
        if name not in NAMES:
            raise UserError(f"{name!r} is not an option of a checkpoint: use {', '.join(NAMES)}")
        if name in SIZES:
            if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,4}", str(value)) or not 1 <= int(value) <= MOST:
                raise UserError(f"option {name} is {value!r}: give a whole number from 1 to {MOST}")
            result[name] = int(value)
        elif not isinstance(value, str) or not WORD.fullmatch(value):
            raise UserError(f"option {name} is {value!r}: give a name of vLLM's, such as {NAMES[name].split()[-1]}")
        else:
            result[name] = value
    return result


def parsed(words: Iterable[str]) -> dict[str, str | int]:
    """Options of NAME=VALUE words. Raises `UserError`."""
    pairs = [word.partition("=") for word in words]
    for name, mark, _ in pairs:
        if not mark:
            raise UserError(f"{name!r} is not NAME=VALUE: use one of {', '.join(NAMES)}")
    return checked({name.replace("-", "_"): value for name, _, value in pairs})


def store(session: Session, checkpoint: str, options: Mapping[str, str | int]) -> None:
    """Keep the options of a checkpoint, none of them included; its next start uses them."""
    row = session.get(EngineOptions, checkpoint)
    if row is None:
        session.add(EngineOptions(checkpoint=checkpoint, options=dict(options)))
    elif row.options != options:
        row.options, row.updated = dict(options), now()
    session.flush()


def arguments(options: Mapping[str, str | int]) -> list[str]:
    """The options as words of the vLLM server's command line."""
    words = []
    for name, value in checked(options).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    if "tool_call_parser" in options:
        words.append("--enable-auto-tool-choice")  # without it the parser is never used
    return words
