"""Output folders of lm-eval as the models of a run: table, verdict and report of what was measured elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evals import results
from evals.lm_eval_folder import read_lm_eval
from evals.options import Config
from evals.results import Result, prompt_hash, summarise
from evals.suite import Metric
from training.artifacts.errors import UserError
from training.artifacts.files import LONGEST_NAME, write_atomically
from training.artifacts.text import STEERING

RESERVED = (".", "..", "run", "gate", "summary", "table")  # not names of models: the folder has files of these names


def import_folders(config: Config, out: Path) -> None:
    """Write a result for each folder, the last as the candidate and the others as what it is compared with.

    Raises:
        UserError: an entry is not of the form NAME=FOLDER, a name occurs twice, or a folder is not one run of lm-eval.
    """
    folders = named_folders(config.imports)
    measured = {name: read_lm_eval(folder) for name, folder in folders.items()}
    for name, side in measured.items():
        digest = results.write_items(side.items, out / f"{name}.items.jsonl")
        declared = {key: _declared(key, fields) for key, fields in side.declared.items()}
        result = Result(
            system=name,
            label=name,
            checkpoint=side.checkpoint,
            ask="plain",
            url=str(folders[name]),
            through_filters=False,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=0,
            sampling={},
            suites=sorted(side.suites),
            data={},
            judges={},
            prompts_sha256=prompt_hash("".join(item.prompt_hash for item in side.items)),
            items_file=f"{name}.items.jsonl",
            items_sha256=digest,
            metrics=summarise(side.items, declared),
            declared={key: asdict(metric) for key, metric in declared.items()},
            comparable=side.comparable,
        )
        results.write_result(result, out)
    *baselines, candidate = measured
    described = {
        "systems": list(measured),
        "baselines": baselines,
        "candidates": [candidate],
        "imported": {name: str(folder) for name, folder in folders.items()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config) | {"key": None},
    }
    write_atomically(out / "run.json", json.dumps(described, indent=1, default=str) + "\n")


def _declared(key: str, fields: Mapping[str, Any]) -> Metric:
    """The declaration of a metric of a folder; one that no direction is known of has no margin."""
    known = {name: fields[name] for name in ("words", "better", "share", "margin") if name in fields}
    return Metric(key.split(".", 1)[1], **known)


def named_folders(entries: Sequence[str]) -> dict[str, Path]:
    """Folders by name."""
    folders: dict[str, Path] = {}
    for entry in entries:
        name, separator, path = entry.partition("=")
        if not separator or not name or not path or "/" in name:
            raise UserError(f"--import {entry!r} is not of the form NAME=FOLDER, such as new=lm_eval_out/new")
        if re.search(STEERING, name) or name in RESERVED or len(name.encode()) > LONGEST_NAME:
            raise UserError(f"--import {entry!r}: {name!r} cannot name a file of the results: give another NAME")
        if name.casefold() in map(str.casefold, folders):
            raise UserError(f"--import names {name} twice: give every folder a name of its own")
        if not Path(path).is_dir():
            raise UserError(f"--import {entry}: {path} is not a folder of lm-eval's output")
        folders[name] = Path(path)
    return folders
