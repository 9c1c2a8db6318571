"""lm-eval's tasks by name. Its index reads some thousands of files, so the list is kept on disk per version."""

from __future__ import annotations

import difflib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically

OFFERED = 4


def tasks_folder() -> Path:
    """Where lm-eval keeps its task files."""
    import lm_eval.tasks

    return Path(str(lm_eval.tasks.__file__)).parent


def task_files(home: Path) -> Mapping[str, str]:
    """Name of every task of lm-eval -> its file below `tasks_folder()`; empty for a group or tag of several tasks.

    Args:
        home: the list is kept in its folder `cache`.
    """
    file = home / "cache" / f"lm-eval-{importlib.metadata.version('lm_eval')}-tasks.json"
    if file.is_file():
        try:
            known: Mapping[str, str] = json.loads(file.read_text())
            return known
        except ValueError:
            file.unlink()
    files = _index()
    write_atomically(file, json.dumps(files) + "\n")
    return files


def find(name: str, home: Path) -> str:
    """The file of a task; empty for a group. Raises `UserError` with the nearest names for an unknown one."""
    known = task_files(home)
    if name not in known:
        raise UserError(f"lm-eval {importlib.metadata.version('lm_eval')} has no task {name!r}{_nearest(name, known)}")
    return known[name]


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, OFFERED, 0.5) or [n for n in sorted(known) if name in n][:OFFERED]
    return f": did you mean {', '.join(close)}?" if close else ": `lm_eval ls tasks` lists them"


def _index() -> dict[str, str]:
    from lm_eval.tasks._index import Kind, TaskIndex

    folder = tasks_folder()
    with progress.bar("lm-eval's list of tasks", None):
        entries = TaskIndex.build([folder])
    return {
        name: str(entry.yaml_path.relative_to(folder))
        if entry.yaml_path and entry.kind in (Kind.TASK, Kind.PY_TASK)
        else ""
        for name, entry in sorted(entries.items())
    }
