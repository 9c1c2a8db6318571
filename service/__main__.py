"""`python -m service COMMAND ...`: the service and its administration."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from service.capacity import Load, Machines
from service.ending import exit_on_sigterm
from service.settings import SCOPES, Settings, check_names, variable_of
from training.artifacts.errors import UserError, run_command

LONG_RUNNING = "serving"  # the module of the commands that run until they are told to end


def main(arguments: Sequence[str] | None = None) -> int | None:
    parsed = parser().parse_args(arguments)
    # Imported only when asked for: --help must not load a web server.
    module, function = parsed.run.split(".")
    with exit_on_sigterm() if module == LONG_RUNNING else nullcontext():
        run: Callable[[Settings, argparse.Namespace], int | None]
        run = getattr(importlib.import_module(f"service.{module}"), function)
        settings = settings_of(parsed)
        from service.store.database import explained

        with explained(settings.database):
            return run(settings, parsed)


def settings_of(parsed: argparse.Namespace) -> Settings:
    """Options before environment before the places below --home. Raises `UserError` for what is wrong or unknown."""
    check_names(os.environ)
    home = parsed.home
    values: dict[str, Any] = {
        name: value
        for name, value in {
            "database": f"sqlite:///{home / 'service.db'}",
            "checkpoints": home / "checkpoints",
            "logs": home / "logs",
        }.items()
        if variable_of(name) not in os.environ
    }
    options = {name: getattr(parsed, name, None) for name in Settings.model_fields}
    values |= {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # two settings that contradict each other
            raise UserError(first["msg"].removeprefix("Value error, ")) from None
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"setting `{where}` (${variable_of(where)}): {first['msg']}") from None
    except SettingsError as error:
        raise UserError(
            f'{error}: a list is written as JSON, such as ["policy/production", "policy/candidate"]'
        ) from None


def parser() -> argparse.ArgumentParser:
    """The command line of every command."""
    common, below = _common(Path("runs"), None), _common(argparse.SUPPRESS, argparse.SUPPRESS)
    root = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve checkpoints and collect preferences. Every setting is also read from ALIGNLOOP_NAME.",
    )
    subparsers = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: str, about: str, into: Any = subparsers, parent: Any = common) -> Any:
        about_settings = _settings_help() if run.startswith(f"{LONG_RUNNING}.") else None
        subparser = into.add_parser(
            name,
            parents=[parent],
            help=about,
            description=about,
            epilog=about_settings,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.set_defaults(run=run)
        return subparser

    serve = command("serve", "serving.serve", "run the gateway")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="port (8000)")
    serve.add_argument(
        "--open", action="store_true", default=None, help="no key for pages and generation; loopback only"
    )
    serve.add_argument(
        "--with-engines", nargs="*", metavar="ID", default=None,
        help="also run the supervisor, for these checkpoints and all that aliases name",
    )  # fmt: skip
    engines = command("engines", "serving.engines", "run the supervisor: the vLLM servers of this machine")
    engines.add_argument("--serve", nargs="*", metavar="ID", default=[], help="checkpoints beside those of the aliases")
    for with_remote in (serve, engines):
        with_remote.add_argument(
            "--engine",
            action="append",
            default=[],
            metavar="ID=URL",
            help="a checkpoint that another vLLM server serves, under the name ID",
        )

    below_engines = engines.add_subparsers(metavar="ACTION", help="instead of running it: list")
    command("list", "alias_commands.list_engines", "list engines: state, plan, reason", below_engines, below)

    command("migrate", "commands.migrate", "create the tables of the store, or bring them up to date")
    keys = subparsers.add_parser("keys", help="API keys").add_subparsers(metavar="ACTION", required=True)
    add = command("add", "key_commands.add_key", "add a key; it is shown once", keys)
    add.add_argument("name", help="who uses it")
    add.add_argument("--scopes", nargs="+", required=True, metavar="SCOPE", help=", ".join(SCOPES))
    add.add_argument("--days", type=float, help="days until it expires (never)")
    command("list", "key_commands.list_keys", "list keys without their secrets", keys)
    command("revoke", "key_commands.revoke_key", "revoke a key", keys).add_argument("key", help="id or prefix")

    people = subparsers.add_parser("labelers", help="people who rank")
    labelers = people.add_subparsers(metavar="ACTION", required=True)
    add = command("add", "labeler_commands.add_labeler", "add a labeler; the sign-in token is shown once", labelers)
    add.add_argument("name")
    add.add_argument("--group", help="such as training or heldout")
    command("list", "labeler_commands.list_labelers", "list labelers, and what they changed or withdrew", labelers)
    for name, run, about in (
        ("disable", "disable_labeler", "end a labeler's access"),
        ("enable", "enable_labeler", "let a disabled labeler in again"),
        ("reissue", "reissue_token", "a new sign-in token for one that was lost; it is shown once"),
        ("exclude", "exclude_labeler", "leave a labeler's answers out of results and exports"),
        ("include", "include_labeler", "count an excluded labeler's answers again"),
    ):
        one = command(name, f"labeler_commands.{run}", about, labelers)
        one.add_argument("labeler", help="name, pseudonym or id")

    prompts = subparsers.add_parser("pool", help="the prompts that labelers are given")
    pool = prompts.add_subparsers(metavar="ACTION", required=True)
    shown = command("list", "pool_commands.list_pool", "list prompts out of use: for whom, since when and why", pool)
    shown.add_argument("--checkpoint", help="only what this checkpoint refused")
    shown.add_argument("--limit", type=int, default=100, help="rows, the newest (100)")
    restore = command("restore", "pool_commands.restore", "bring prompts back", pool)
    restore.add_argument("prompts", nargs="*", metavar="PROMPT", help="ids; none: all that --checkpoint refused")
    restore.add_argument("--checkpoint", help="only for this checkpoint")
    retire = command("retire", "pool_commands.retire", "give prompts to nobody any more; their comparisons stay", pool)
    retire.add_argument("prompts", nargs="+", metavar="PROMPT", help="ids")
    retire.add_argument("--reason", required=True, help="why, in a sentence")

    promote = command("promote", "alias_commands.promote", "point an alias to a checkpoint and wait until it answers")
    promote.add_argument("alias", help="such as policy/production")
    promote.add_argument("checkpoint", help="id, or a stage for the newest of it")
    promote.add_argument(
        "--gate", type=Path, metavar="FILE",
        help="refuse without a PASS of the release gate: what `evals gate --out` wrote, or the folder of `evals run`",
    )  # fmt: skip
    promote.add_argument(
        "--option", nargs="*", metavar="NAME=VALUE",
        help="vLLM options of the checkpoint, such as tool_call_parser=hermes; without values: none. "
        "By default its own, or else those of what the alias was",
    )  # fmt: skip
    rollback = command("rollback", "alias_commands.rollback", "point an alias to the checkpoint served before")
    rollback.add_argument("alias")
    for waiting in (promote, rollback):
        waiting.add_argument("--no-wait", action="store_true", help="do not wait until it answers")
    names = subparsers.add_parser("aliases", help="names such as policy/production")
    aliases = names.add_subparsers(metavar="ACTION", required=True)
    command("list", "alias_commands.list_aliases", "list aliases: their targets and what answers now", aliases)
    command("remove", "alias_commands.remove_alias", "remove an alias", aliases).add_argument("alias")
    audit = command("audit", "alias_commands.list_audit", "list who changed what")
    audit.add_argument("subject", nargs="?", help="an alias, a checkpoint, a key's name or a pseudonym")
    audit.add_argument("--limit", type=int, default=100, help="rows, the newest (100)")

    trace = command("trace", "lineage_commands.trace", "say what is behind a checkpoint, or what a vote went into")
    trace.add_argument("name", help="a checkpoint, an alias or a stage; or the id of an answer or of its task")
    as_ = trace.add_mutually_exclusive_group()
    as_.add_argument("--votes", action="store_true", help="only the ids of the votes, one per line")
    as_.add_argument("--json", action="store_true", help="as JSON, with every id")

    export = command("export", "commands.export", "write the comparisons as a frozen JSONL file")
    export.add_argument("file", type=Path)
    imported = command("import", "commands.import_rows", "read prompts into the store")
    imported.add_argument("what", choices=["prompts"])
    imported.add_argument("source", help="file, folder or hub id: PATH_OR_ID[:configuration][@split]")
    imported.add_argument(
        "--correct", action="store_true", help="replace stored prompts by rows of the same id with another text"
    )
    reckoned = command("capacity", "capacity_commands.capacity", "reckon gateways, engines and bytes for a load")
    for field in fields(Load) + fields(Machines):
        flag = f"--{field.name.replace('_', '-')}"
        about = f"{field.metadata['about']} ({field.default:g})"
        reckoned.add_argument(flag, type=float, default=field.default, help=about)
    saved = command("backup", "backup_commands.backup", "copy the store and the checkpoints, while they are in use")
    saved.add_argument("folder", type=Path, help="where backups are kept; checkpoints are copied into it once")
    brought_back = command("restore", "backup_commands.restore", "bring a backup back into an empty store")
    brought_back.add_argument("folder", type=Path, help="a backup, or the folder of several for the newest")
    return root


def _common(home: Any, other: Any) -> argparse.ArgumentParser:
    """The options of every command. A command below one that has them suppresses its defaults: they would win."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, default=home, help="folder of store, checkpoints and logs (runs)")
    common.add_argument("--database", default=other, help="SQLAlchemy URL of the store (HOME/service.db)")
    common.add_argument(
        "--checkpoints", type=Path, default=other, help="folder of published checkpoints (HOME/checkpoints)"
    )
    return common


def _settings_help() -> str:
    """Every setting with its variable, as a paragraph of `--help`."""
    lines = ["settings, from the environment:"]
    for name, field in Settings.model_fields.items():
        lines.append(f"  {variable_of(name)}")
        lines += textwrap.wrap(field.description or "", 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join([*lines, "", "docs/reference/settings.md has their defaults."])


if __name__ == "__main__":
    sys.exit(run_command(main))
