"""`python -m training data`: what a data file holds, what would be used of it, and hygiene."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from training.artifacts.comparisons import Comparison, pairs_of, to_json
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.artifacts.layouts import comparisons, demonstrations, pretraining, prompts
from training.artifacts.loading import Loaded
from training.data import hygiene
from training.data.lengths import CONTEXT
from training.runtime.configuration import parse

LOADERS: dict[str, Callable[..., Loaded[Any]]] = {
    "demonstrations": demonstrations.load,
    "comparisons": comparisons.load,
    "prompts": prompts.load,
    "pretraining": pretraining.load,
}


@dataclass(frozen=True)
class DataConfig:
    """Check a data source: rows used, rows left out by reason, hygiene, lengths. Writes nothing without --out."""

    kind: Literal["demonstrations", "comparisons", "prompts", "pretraining"]
    """What the rows are."""
    source: str
    """A file (.jsonl, .json, .csv, .tsv, .txt, .parquet, .arrow, each also .gz), a folder, or a hub id, each as
    PATH_OR_ID[:configuration][@split]."""
    limit: int | None = None
    """Use this many usable rows, drawn at random."""
    tokenizer: str | None = None
    """Folder or hub id of a model: also count tokens, and the rows that a stage would leave out."""
    show: int = 0
    """With --tokenizer: print this many rows as a model reads them, learned tokens green."""
    context: int = CONTEXT
    """With --tokenizer: greatest number of tokens of a row, as in the stages; of prompts at most 1,024."""
    validation: float = 0.1
    """Share of users (of prompts, where rows name no user) that goes to the validation split."""
    out: Path | None = None
    """Folder for train.jsonl and validation.jsonl: cleaned, split by user, in the form that every stage reads."""


def main(arguments: Sequence[str]) -> int:
    config = parse(DataConfig, "data", arguments)
    check(config)
    loaded = LOADERS[config.kind](config.source, limit=config.limit)
    _print_rows(config, loaded)
    table = Table("length", "median", "95 %", "longest", box=None, pad_edge=False)
    table.columns[0].min_width = 12
    add_lengths(table, "characters", [sum(map(len, _texts(record))) for record in loaded.records])
    if config.tokenizer is None:
        Console().print(table)
    else:
        from training.data.preview import print_rendered  # loads torch

        print_rendered(config, config.tokenizer, table, loaded.skipped)
    if config.kind != "pretraining":
        _clean_and_split(config, loaded)
    return 0


def check(config: DataConfig) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is read."""
    if not 0 <= config.validation < 1:
        raise UserError(f"--validation {config.validation} is not a share: use a number from 0 up to, not including, 1")
    if config.out is not None and config.kind == "pretraining":
        raise UserError("--out writes conversations only: pretraining text is read as it is, leave --out out")
    if config.show and config.tokenizer is None:
        raise UserError("--show needs --tokenizer, the model that reads the rows")
    if config.context < 2 or config.show < 0:
        raise UserError("--context must be at least 2, and --show at least 0")


def _print_rows(config: DataConfig, loaded: Loaded[Any]) -> None:
    used, rows = len(loaded.records), loaded.rows
    print(f"{config.kind} of {config.source} (sha256 {loaded.sha256[:16]})")
    print(f"  rows read {rows:,}, used {used:,} ({used / rows:.1%})")
    print_reasons(loaded.skipped)
    if loaded.ignored:
        print(f"  columns that are not used: {', '.join(sorted(loaded.ignored))}")
    if config.kind == "comparisons":
        ks = [len(c.responses) for c in loaded.records]
        pairs = [outcome for c in loaded.records for _, _, outcome in pairs_of(c)]
        print(f"  responses per prompt {min(ks)} to {max(ks)}, pairs {len(pairs):,}, of them tied {pairs.count(0):,}")


def print_reasons(reasons: Mapping[str, int]) -> None:
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        print(f"  left out {count:,}: {reason}")


def add_lengths(table: Table, name: str, lengths: Sequence[int]) -> None:
    if len(lengths):
        high = sorted(lengths)[min(len(lengths) - 1, int(0.95 * len(lengths)))]
        table.add_row(name, f"{median(lengths):,.0f}", f"{high:,}", f"{max(lengths):,}")


def _texts(record: Any) -> list[str]:
    return [record] if isinstance(record, str) else hygiene.texts_of(record)


def _clean_and_split(config: DataConfig, loaded: Loaded[Any]) -> None:
    """Hygiene and the split by user, in InstructGPT's order; both splits are written where --out is given."""
    distinct = loaded if config.kind == "comparisons" else hygiene.without_repeats(loaded)
    train, validation = hygiene.split_by_user(distinct.records, config.validation)
    if not train:
        if config.out is None:
            print(f"after hygiene: training 0, validation {len(validation):,}: too few users or prompts for a split")
            return
        raise UserError(f"every row of {config.source} fell into validation: lower --validation, or give more users")
    cleaned = hygiene.without_personal_information(replace(distinct, records=train))
    by = "user" if any(record.user is not None for record in loaded.records) else "prompt"
    print(f"after hygiene: training {len(cleaned.records):,}, validation {len(validation):,} (split by {by})")
    print_reasons(cleaned.skipped - loaded.skipped)
    if config.out is not None:
        for name, records in (("train", cleaned.records), ("validation", validation)):
            lines = "".join(_to_json(record) + "\n" for record in records)
            write_atomically(config.out / f"{name}.jsonl", lines)
            print(f"wrote {config.out / name}.jsonl")


def _to_json(record: Any) -> str:
    if isinstance(record, Comparison):
        return to_json(record)
    return json.dumps(asdict(record), sort_keys=True, ensure_ascii=False)
