"""The `--help` of every command, as its own parser prints it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import evals.__main__ as evals_commands
import service.__main__ as service_commands
import training.__main__ as training_commands

JUDGES = ("toxicity", "truth")
WIDTH = "100"
FRAME = "╭╮╰╯│─"


def training() -> str:
    return _pages("training", [(name,) for name in training_commands.MODULES], run_training)


def service() -> str:
    return _pages("service", list(service_names()), service_commands.main)


def evals() -> str:
    names: list[tuple[str, ...]] = [(name,) for name in evals_commands.COMMANDS if name != "judges"]
    return _pages("evals", names + [("judges", name) for name in JUDGES], evals_commands.main)


def run_training(arguments: Sequence[str]) -> int | None:
    """`python -m training ...` in this process."""
    module = importlib.import_module(training_commands.MODULES[arguments[0]])
    status: int | None = module.main(arguments[1:])
    return status


def service_names() -> Iterator[tuple[str, ...]]:
    """The words of each command: ("serve",), ("keys", "add"), ..."""
    for name, parser in _subcommands(service_commands.parser()).items():
        actions = _subcommands(parser)
        if not actions or parser.get_default("run"):
            yield (name,)
        yield from ((name, action) for action in actions)


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a parser by name; none for a command that has none."""
    below = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(below[0]) if below else {}


def help_of(run: Callable[[Sequence[str]], int | None], words: Sequence[str]) -> str:
    """What a command prints for --help: without frames, and whatever variables are set here."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ALIGNLOOP_")}
    clean |= {"COLUMNS": WIDTH, "NO_COLOR": "1"}
    printed = io.StringIO()
    with mock.patch.dict(os.environ, clean, clear=True), contextlib.redirect_stdout(printed):
        try:
            run([*words, "--help"])
        except SystemExit as end:
            if end.code:
                raise
    lines = (line.strip(FRAME) if line[:1] in FRAME else line for line in printed.getvalue().splitlines())
    return "\n".join(line.rstrip() for line in lines).strip()


def _pages(package: str, commands: Sequence[tuple[str, ...]], run: Callable[[Sequence[str]], int | None]) -> str:
    parts = []
    for words in commands:
        parts.append(f"### `python -m {package} {' '.join(words)}`\n\n```text\n{help_of(run, words)}\n```")
    return "\n\n".join(parts)
