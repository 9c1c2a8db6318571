"""Which tasks a run of the tax measures."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.tasks import names
from evals.tasks.build import Built, Spec, build, plain, spec_of, stay_offline
from evals.tasks.files import split_name
from evals.tasks.layouts import official
from training.artifacts import progress
from training.artifacts.errors import UserError


def specs(files: Mapping[str, str], tasks: Sequence[str], home: Path) -> list[Spec]:
    """Every task that is named: files by `--data NAME=SOURCE`, and lm-eval's tasks by `--task NAME`.

    Args:
        files: NAME, or KIND:NAME -> source. A task of the same name as a file reads that file, in the hub's columns
            where it is not a benchmark whose published files are known.
        home: lm-eval's list of tasks is kept there.

    Raises:
        UserError: an unknown task (the nearest names are offered), or two with one name.
    """
    planned = []
    for key, source in files.items():
        kind, name = split_name(key)
        if kind in tasks and official(kind) is None:
            names.find(kind, home)
            planned.append(Spec(plain(name), "hub", kind, source))
        else:
            planned.append(spec_of(name, kind, source, home))
    covered = {split_name(key)[0] for key in files}
    for task in tasks:
        if task in covered:
            continue
        known = official(task)
        if known is None and not names.find(task, home):
            raise UserError(f"{task} is a group of several lm-eval tasks: name them one by one")
        planned.append(Spec(plain(task), "hub", known.task if known else task))
    repeated = [spec.name for spec in planned if [other.name for other in planned].count(spec.name) > 1]
    if repeated:
        raise UserError(f"two tasks are called {repeated[0]}: give every file a name of its own")
    return planned


def build_all(planned: Sequence[Spec], shots: Sequence[int], home: Path) -> list[Built]:
    """All tasks with their data. Raises `UserError` for data that does not fit its task."""
    if all(spec.source is not None for spec in planned):
        stay_offline()
    # Whole before `datasets` sees it: two models are measured in two threads, and `datasets` asks a `transformers` that
    # another thread is still importing for names that it does not have yet.
    importlib.import_module("transformers")
    tasks = []
    with progress.bar("tasks read", len(planned)) as bar:
        for spec in planned:
            tasks += build(spec, shots, home)
            bar.advance()
    _check_names(tasks)
    return tasks


def _check_names(tasks: Sequence[Built]) -> None:
    """Raise `UserError` for a task that another one's results would be called by: its form, or what is per token."""
    taken: dict[str, str] = {}
    for task in tasks:
        for name in (task.name, f"{task.name}-chat", *([f"{task.name}_tokens"] if task.kind == "heldout" else [])):
            if name in taken:
                raise UserError(f"results of {taken[name]} and {task.name} would both be called {name}: rename a file")
            taken[name] = task.name
