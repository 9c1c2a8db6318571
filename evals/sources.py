"""What a run measures on: data that the user names, comparisons, and the miniature world where there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.options import Config
from evals.results import prompt_hash
from training.artifacts.comparisons import Comparison
from training.artifacts.errors import UserError
from training.artifacts.files import lines_of
from training.artifacts.layouts import comparisons
from training.artifacts.rows import open_source

OTHER_SUITES = ("truthfulqa", "toxicity", "prompts")  # names of --data that are not tasks of the tax


@dataclass(frozen=True)
class Sources:
    """Sources of a run.

    Attributes:
        world: folder of the miniature world, None without one.
        files: name -> file, folder or hub data set, as `training.artifacts.rows.open_source` takes it.
        tasks: lm-eval tasks by name.
        comparisons: held-out comparisons.
        data: name -> {"path", "sha256", "rows", "skipped"} of what is not described by a suite: world, comparisons.
        reward, scorer: whether the run has a reward model, and a toxicity scorer.
    """

    world: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    comparisons: Sequence[Comparison] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    reward: bool = False
    scorer: bool = False

    @property
    def tax_files(self) -> dict[str, str]:
        """Files that are tasks of the tax."""
        return {name: file for name, file in self.files.items() if name not in OTHER_SUITES}


def sources_of(config: Config) -> Sources:
    """Everything that the options name, read once. Raises `UserError` for what cannot be opened."""
    world = None if config.real else config.world or _newest_world(config.home)
    if world and not (world / "world.json").is_file():
        raise UserError(f"{world} is not a miniature world: run `python -m training world`, or leave --world out")
    data: dict[str, Any] = {}
    if world:
        data["world"] = json.loads((world / "world.json").read_text()) | {"path": str(world)}
    files = _named_files(config.data)
    rows, described = _comparisons(config.comparisons, world)
    return Sources(
        world, files, tuple(config.task), rows, data | described, config.reward is not None, config.scorer is not None
    )


def specs_of(world: Path) -> dict[str, Any]:
    """Prompts of the world by the hash of their messages."""
    rows = [json.loads(line) for path in sorted(world.glob("prompts-*.jsonl")) for line in lines_of(path)]
    return {prompt_hash(row["messages"]): row for row in rows}


def _comparisons(paths: Sequence[Path], world: Path | None) -> tuple[list[Comparison], dict[str, Any]]:
    """Comparisons on other prompts than those that the world has for training, and what was read."""
    specs = specs_of(world) if world and paths else {}
    held_out: list[Comparison] = []
    described: dict[str, Any] = {}
    for path in paths:
        loaded = comparisons.load(str(path))
        rows = [row for row in loaded.records if specs.get(prompt_hash(list(row.messages)), {}).get("split") != "train"]
        if len(rows) < len(loaded.records):
            loaded.skipped["its prompt is for training"] = len(loaded.records) - len(rows)
        described[f"comparisons:{path}"] = {
            "path": str(path), "sha256": loaded.sha256, "rows": len(rows), "skipped": dict(loaded.skipped)
        }  # fmt: skip
        held_out += rows
    return held_out, described


def _named_files(entries: Sequence[str]) -> dict[str, str]:
    """Sources by name. Raises `UserError` for one that cannot be opened, and for two that results would name alike."""
    files: dict[str, str] = {}
    tasks: set[str] = set()
    for entry in entries:
        name, separator, path = entry.partition("=")
        task = name.rpartition(":")[2]
        if not separator or not task or not path:
            raise UserError(f"--data {entry!r} is not of the form NAME=FILE, such as hellaswag=hellaswag.jsonl")
        if task in tasks:
            raise UserError(f"--data names {task} twice: give every file a name of its own")
        open_source(path)
        tasks.add(task)
        files[name] = path
    return files


def _newest_world(home: Path) -> Path | None:
    manifests = sorted((home / "world").glob("[!.]*/world.json"), key=lambda p: p.stat().st_mtime)
    return manifests[-1].parent if manifests else None
