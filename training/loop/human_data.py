"""The real data of `python -m training real`: human comparisons, prompts and evaluation items, split and fixed by hash.

Where an item goes depends on its own text alone, so it is in the same part in every run, on every machine, whatever
stands before it in its file. The four parts of the comparisons share no opening question.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from training.artifacts import comparisons
from training.artifacts.comparisons import Comparison
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.artifacts.layouts import comparisons as comparison_rows
from training.artifacts.layouts import prompts as prompt_rows
from training.artifacts.layouts.prompts import PromptRecord
from training.artifacts.rows import Skip, open_source
from training.runtime import runs

DATA_FOLDER = "ALIGNLOOP_DATA"  # variable that names a folder with copies of the data sets
# Shares of the comparisons: measured on, settings chosen on, the stand-in labeler's, and trained on. A conversation is
# placed by its first question.
PARTS = {"heldout": 0.25, "development": 0.1, "labeler": 0.2, "training": 0.45}
# At most, the first by hash: what a laptop measures in minutes. Training takes what its preset's `limit` says.
MOST = {"heldout": 600, "development": 100, "labeler": 500, "training": 5_000}
FEWEST = 10  # comparisons of each part
# name -> (file in $ALIGNLOOP_DATA, id on the hub)
SOURCES = {
    "comparisons": ("hh/harmless_base_test.jsonl", "Anthropic/hh-rlhf@test"),
    "prompts": ("sft/user_oriented_instructions_252.jsonl", "databricks/databricks-dolly-15k"),
    "text": ("ptx/wikitext2_valid.txt", "Salesforce/wikitext:wikitext-2-raw-v1@validation"),
    "hellaswag": ("icl/hellaswag_val_1k.jsonl", "Rowan/hellaswag@validation"),
    "piqa": ("icl/piqa.jsonl", "baber/piqa@validation"),
    "truthfulqa": ("truthfulqa/mc_task_2025.jsonl", "truthfulqa/truthful_qa:multiple_choice@validation"),
}
ITEMS = {"hellaswag": 200, "piqa": 200, "truthfulqa": 100}  # that are measured
POOL = 252  # prompts for ranking
T = TypeVar("T")
LONGEST_PROMPT = 1_000  # characters of a prompt in the pool: longer ones are tiring to rank


def place(text: str) -> float:
    """A number in [0, 1) that depends on the text alone, but for its case and the space around it."""
    return int.from_bytes(hashlib.sha256(text.strip().lower().encode()).digest()[:6], "big") / 2**48


def source_of(name: str) -> str:
    """The file in the folder of copies where there is one, else the id on the hub."""
    file, hub = SOURCES[name]
    local = Path(os.environ.get(DATA_FOLDER, "")) / file
    return str(local) if os.environ.get(DATA_FOLDER) and local.is_file() else hub


def _read(load: Callable[[str], T], source: str, option: str) -> T:
    """What `load` makes of a source. Raises `UserError` with the ways to another one where it cannot be had."""
    try:
        return load(source)
    except UserError as error:
        ways = f"name another with {option}, or a folder of copies with the variable {DATA_FOLDER}"
        raise UserError(f"{error} ({ways})") from None


def split(sources: Sequence[str], folder: Path) -> dict[str, Path]:
    """Write the comparisons of these sources in four parts to FOLDER/PART.jsonl; part -> file.

    Raises:
        UserError: a source cannot be read, or a part holds fewer than `FEWEST` comparisons.
    """
    rows = [row for source in sources for row in _read(comparison_rows.load, source, "--data").records]
    rows = list({row.id: row for row in rows}.values())
    rows.sort(key=lambda row: (place(f"draw {_question(row)}"), row.id))
    parts: dict[str, list[Comparison]] = {name: [] for name in PARTS}
    for row in rows:
        name = _part(place(_question(row)))
        if len(parts[name]) < MOST[name]:
            parts[name].append(row)
    small = [f"{name} ({len(part)})" for name, part in parts.items() if len(part) < FEWEST]
    if small:
        raise UserError(
            f"{len(rows)} comparisons leave too few for {', '.join(small)}: give at least 200 on different questions"
        )
    files = {name: folder / f"{name}.jsonl" for name in PARTS}
    for name, part in parts.items():
        comparisons.freeze(part, files[name])
    runs.CONSOLE.print(
        "human comparisons: " + ", ".join(f"{len(part):,} {name}" for name, part in parts.items()), highlight=False
    )
    return files


def write_questions(file: Path, out: Path, longest: int = LONGEST_PROMPT) -> int:
    """Write the prompts of a file of comparisons, each once; returns how many."""
    rows = {row.prompt_id or row.id: row for row in comparisons.read(file)[0]}
    texts = [
        json.dumps({"id": key, "messages": list(row.messages)}, ensure_ascii=False) + "\n"
        for key, row in sorted(rows.items())
        if sum(len(message["content"]) for message in row.messages) <= longest
    ]
    write_atomically(out, "".join(texts))
    return len(texts)


def write_pool(sources: Sequence[str], out: Path) -> list[PromptRecord]:
    """Write the prompts that people rank answers to: of each source as many, the first by hash.

    Raises:
        UserError: no prompt is left.
    """
    pool: list[PromptRecord] = []
    for source in sources:
        rows = {row.id: row for row in _read(prompt_rows.load, source, "--prompts").records}
        usable = [row for row in rows.values() if _length(row) <= LONGEST_PROMPT]
        usable.sort(key=lambda row: place(str(row.messages[-1]["content"])))
        pool += usable[: max(1, POOL // len(sources))]
    if not pool:
        raise UserError(
            f"{' and '.join(sources)} hold no prompt of at most {LONGEST_PROMPT:,} characters: give others with "
            "--prompts"
        )
    rows_of = [{"id": row.id, "messages": list(row.messages), "use_case": row.use_case} for row in pool]
    write_atomically(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of))
    return pool


def write_items(name: str, source: str, out: Path, most: int | None = None) -> int:
    """Write the rows of an evaluation set that are measured, the first by hash; returns how many.

    Args:
        most: instead of `ITEMS`.

    Raises:
        UserError: the source cannot be read, or has no row.
    """
    plain = _read(_plain_rows, source, f"--eval-data {name}=FILE")
    rows = [json.dumps(_measured(name, row), ensure_ascii=False, default=str) for row in plain]
    rows = sorted(dict.fromkeys(rows), key=place)[: most or ITEMS.get(name, 200)]
    if not rows:
        raise UserError(f"{source} has no readable row: give another with --eval-data {name}=FILE")
    write_atomically(out, "".join(row + "\n" for row in rows))
    return len(rows)


def _measured(name: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of TruthfulQA the single-answer task alone: the others cost three times as much."""
    if name == "truthfulqa" and "mc1_targets" in row:
        return {"question": row.get("question"), "mc1_targets": row["mc1_targets"]}
    return row


def _plain_rows(source: str) -> list[Mapping[str, Any]]:
    return [row for row in open_source(source).rows() if not isinstance(row, Skip)]


def _question(row: Comparison) -> str:
    """The first thing that the user said: continuations of one conversation share it."""
    return next((str(m["content"]) for m in row.messages if m["role"] == "user"), "")


def _part(where: float) -> str:
    end = 0.0
    for name, share in PARTS.items():
        end += share
        if where < end:
            return name
    return list(PARTS)[-1]


def _length(row: PromptRecord) -> int:
    return sum(len(str(message["content"])) for message in row.messages)
