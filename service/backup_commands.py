"""The commands backup and restore: the database and all checkpoints, together."""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.backups import checkpoints, databases
from service.console import say
from service.settings import Settings
from service.store.database import Store, parse_url
from training.artifacts import checkpoints as published
from training.artifacts.errors import UserError
from training.artifacts.files import make_folder, sha256_file, write_atomically

FORMAT = 1
NAME = "backup.json"  # written last: a folder without it is not a backup
CHECKPOINTS = "checkpoints"  # of all backups of a folder, each once


def backup(settings: Settings, parsed: argparse.Namespace) -> None:
    """Copy the database as it is now, then every checkpoint that the folder does not have yet."""
    folder: Path = parsed.folder
    store = _existing(settings)
    make_folder(folder)
    _refuse_itself(settings.checkpoints, folder / CHECKPOINTS)
    published.sweep(folder)  # what a killed backup left
    partial = published.staging(folder)
    try:
        partial.chmod(0o700)  # votes and hashes of keys are the owner's alone
        created = datetime.now(UTC)
        copied = databases.copy(store, partial)
        # After the database, which names checkpoints that were there before.
        manifests = checkpoints.copy_missing(settings.checkpoints, folder / CHECKPOINTS, "copying checkpoints")
        facts = {
            "format": FORMAT, "created": created.isoformat(timespec="seconds"), "database": copied.file,
            "sha256": sha256_file(partial / copied.file), "rows": copied.rows, "checkpoints": manifests,
        }  # fmt: skip
        write_atomically(partial / NAME, json.dumps(facts, indent=2) + "\n")
        final = folder / f"{created:%Y%m%d-%H%M%S-%f}"
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    say(f"{sum(copied.rows.values()):,} rows and {len(manifests)} checkpoints in {final}")


def restore(settings: Settings, parsed: argparse.Namespace) -> None:
    """Bring checkpoints and database back; the database must be empty, and every file what was backed up."""
    folder = _backup_of(parsed.folder)
    facts = _facts_of(folder)
    file = folder / facts["database"]
    if sha256_file(file) != facts["sha256"]:
        raise UserError(f"{file} is damaged: its sha256 is not that of the backup; restore another one")
    _check_checkpoints(folder.parent / CHECKPOINTS, facts["checkpoints"])
    databases.refuse_used(settings.database)
    # The database last: until it is there, the same command can be given again.
    checkpoints.copy_missing(
        folder.parent / CHECKPOINTS, settings.checkpoints, "restoring checkpoints", facts["checkpoints"]
    )
    databases.restore(file, settings.database)
    rows = databases.rows_of(settings.database)
    if rows != facts["rows"]:
        raise UserError(f"the restored database has other rows than the backup ({rows}): restore it again")
    Store(settings.database).migrate()  # of an older version
    say(
        f"{sum(rows.values()):,} rows and {len(facts['checkpoints'])} checkpoints of {facts['created']} are restored; "
        "answers that were given later are not in them"
    )


def _refuse_itself(store: Path, target: Path) -> None:
    """Raise `UserError` where the checkpoints would be copied onto or into themselves."""
    store, target = store.resolve(), target.resolve()
    if store == target or store in target.parents:
        raise UserError(f"{target} would be a copy of itself: keep backups outside of {store.parent}")


def _existing(settings: Settings) -> Store:
    """The store as it is, whatever version wrote it: a backup comes before an upgrade."""
    url = parse_url(settings.database)
    missing = url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file()
    if missing or not databases.rows_of(settings.database):
        raise UserError(f"{url.render_as_string(hide_password=True)} holds no store: correct --home or --database")
    return Store(settings.database)


def _backup_of(folder: Path) -> Path:
    """The backup that a folder is, or the newest of those in it."""
    if (folder / NAME).is_file():
        return folder
    backups = sorted(file.parent for file in folder.glob(f"[!.]*/{NAME}"))
    if not backups:
        raise UserError(f"{folder} holds no backup: give a folder that `python -m service backup` wrote to")
    return backups[-1]


def _facts_of(folder: Path) -> dict[str, Any]:
    file = folder / NAME
    try:
        facts: dict[str, Any] = json.loads(file.read_bytes())
        if facts["format"] != FORMAT:
            raise UserError(f"{file} has format {facts['format']}, this version reads {FORMAT}: update AlignLoop")
        missing = {"created", "database", "sha256", "rows", "checkpoints"} - facts.keys()
        if not missing and not _is_sound(facts):
            raise ValueError("its fields are not those of a backup")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({error}): restore another backup") from None
    if missing or Path(facts["database"]).name != facts["database"] or not (folder / facts["database"]).is_file():
        raise UserError(f"{folder} is not whole: restore another backup")
    return facts


def _is_sound(facts: dict[str, Any]) -> bool:
    """Whether every field has its type, and no name leads out of the folder."""
    texts = all(isinstance(facts[name], str) for name in ("created", "database", "sha256"))
    tables = all(isinstance(facts[name], dict) for name in ("rows", "checkpoints"))
    return texts and tables and all(id and Path(id).name == id for id in facts["checkpoints"])


def _check_checkpoints(folder: Path, digests: dict[str, str]) -> None:
    """Raise `UserError` unless all are there, with the files that they had."""
    for id, digest in digests.items():
        try:
            whole = checkpoints.digest(published.load(folder / id)) == digest
        except UserError:  # its manifest is missing or damaged
            whole = False
        if not whole:
            raise UserError(f"{folder / id} is missing or damaged: restore another backup, or copy the checkpoint back")
