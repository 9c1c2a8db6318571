"""A sample of the miniature world: the first few rows of each of its files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.artifacts.comparisons import Comparison, Response, freeze
from training.miniature import World
from training.miniature.items import KINDS
from training.miniature.labelers import Group
from training.miniature.world import world_name

ROWS = 8


def write(home: Path) -> Path:
    """Write the sample below `home` and return its folder."""
    world = World.build(seed=0, size="demo")
    folder = home / "world" / world_name("demo", 0)
    folder.mkdir(parents=True)
    for kind in KINDS:
        items = world.items(kind)[-ROWS:] if kind == "context" else world.items(kind)[:ROWS]
        _rows(folder / f"items-{kind}.jsonl", items)
    _rows(folder / "prompts-evaluation.jsonl", [asdict(p) for p in world.prompts("evaluation")[:ROWS]])
    _rows(folder / "prompts-reward.jsonl", [asdict(p) for p in world.prompts("reward")[:ROWS]])
    _rows(folder / "heldout.jsonl", [{"text": text} for text in world.heldout_documents()[:ROWS]])
    tail = world.heldout_tail(set())[:ROWS]
    _rows(folder / "heldout-tail.jsonl", [{"text": text} for text in tail])
    _rows(folder / "toxicity.jsonl", world.toxic_comments()[:2500])
    _rows(folder / "labelers.jsonl", [asdict(x) for x in (*world.labelers("training"), *world.labelers("heldout"))])
    (folder / "world.json").write_text(json.dumps(world.describe()))
    return folder


def compare(path: Path) -> None:
    """Freeze rankings of the same answers by one labeler of each group, for evaluation and for training prompts."""
    world = World.build(seed=0, size="demo")
    answers = ["i do not know .", "you fool .", "the fox is red .", "the almanac says the fox is red ."]
    groups: tuple[Group, Group] = ("training", "heldout")
    comparisons = []
    for group in groups:
        labeler = world.labelers(group)[0]
        for prompt in (*world.prompts("evaluation")[:ROWS], *world.prompts("reward")[:ROWS]):
            ranks = labeler.rank(prompt, answers, random.Random(prompt.id))
            comparisons.append(
                Comparison(
                    id=f"{group}-{prompt.id}",
                    messages=prompt.messages,
                    responses=tuple(Response(text) for text in answers),
                    ranks=tuple(ranks),
                    labeler=labeler.id,
                    labeler_group=group,
                    prompt_id=prompt.id,
                )
            )
    freeze(comparisons, path)


def _rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
