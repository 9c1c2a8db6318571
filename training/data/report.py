"""`python -m training data`: what a data file holds, what would be used of it, and hygiene."""

from __future__ import annotations

import json
from collections import Counter
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
from training.runtime.configuration import parse

LOADERS: dict[str, Callable[..., Loaded[Any]]] = {
    "demonstrations": demonstrations.load,
    "comparisons": comparisons.load,
    "prompts": prompts.load,
    "pretraining": pretraining.load,
}


@dataclass(frozen=True)
class DataConfig:
    """Check a data source: rows used, rows skipped by reason, hygiene, lengths. Writes nothing without --out."""

    kind: Literal["demonstrations", "comparisons", "prompts", "pretraining"]
    """What the rows are."""
    source: str
    """A file (.jsonl, .json, .csv, .tsv, .txt, .parquet, each also .gz), a folder, or a hub id (id:configuration)."""
    split: str | None = None
    """Split of a hub data set or folder; of a file, the value of its column `split`."""
    limit: int | None = None
    """Stop after this many usable rows."""
    tokenizer: str | None = None
    """Folder or hub id of a model: also count tokens and rows that its chat template cannot render."""
    context: int = 2048
    """With --tokenizer: rows of more tokens than this are counted as too long."""
    validation: float = 0.1
    """Share of users (of prompts, where rows name no user) that goes to the validation split."""
    out: Path | None = None
    """Folder for train.jsonl and validation.jsonl: cleaned, split by user, in the form that every stage reads."""


def main(arguments: Sequence[str]) -> int:
    config = parse(DataConfig, "data", arguments)
    if not 0 <= config.validation < 1:
        raise UserError(f"--validation {config.validation} is no share: use a number from 0 up to, not including, 1")
    if config.out is not None and config.kind == "pretraining":
        raise UserError("--out writes conversations only: pretraining text is read as it is, leave --out out")
    loaded = LOADERS[config.kind](config.source, split=config.split, limit=config.limit)
    _print_rows(config, loaded)
    _print_lengths(config, loaded)
    if config.kind != "pretraining":
        _clean_and_split(config, loaded)
    return 0


def _print_rows(config: DataConfig, loaded: Loaded[Any]) -> None:
    used, rows = len(loaded.records), loaded.rows
    print(f"{config.kind} of {config.source} (sha256 {loaded.sha256[:16]})")
    print(f"  rows read {rows:,}, used {used:,} ({used / rows:.1%})")
    _print_reasons(loaded.skipped)
    if config.kind == "comparisons":
        ks = [len(c.responses) for c in loaded.records]
        pairs = [outcome for c in loaded.records for _, _, outcome in pairs_of(c)]
        print(f"  responses a prompt {min(ks)} to {max(ks)}, pairs {len(pairs):,}, of them tied {pairs.count(0):,}")


def _print_reasons(reasons: Mapping[str, int]) -> None:
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        print(f"  left out {count:,}: {reason}")


def _print_lengths(config: DataConfig, loaded: Loaded[Any]) -> None:
    """Characters of each record; tokens too where a tokenizer is named."""
    table = Table("length", "median", "95 %", "longest", box=None, pad_edge=False)
    table.columns[0].min_width = 12
    _add_lengths(table, "characters", [sum(map(len, _texts(record))) for record in loaded.records])
    reasons: Counter[str] = Counter()
    if config.tokenizer is not None:
        _add_lengths(table, "tokens", _token_counts(config, loaded.records, reasons))
    Console().print(table)
    _print_reasons(reasons)


def _add_lengths(table: Table, name: str, lengths: list[int]) -> None:
    if lengths:
        high = sorted(lengths)[min(len(lengths) - 1, int(0.95 * len(lengths)))]
        table.add_row(name, f"{median(lengths):,.0f}", f"{high:,}", f"{max(lengths):,}")


def _texts(record: Any) -> list[str]:
    return [record] if isinstance(record, str) else hygiene.texts_of(record)


def _token_counts(config: DataConfig, records: Sequence[Any], reasons: Counter[str]) -> list[int]:
    """Tokens of each rendered conversation or document; those that a stage would skip are counted in `reasons`.

    A comparison counts with its longest response.
    """
    from transformers import AutoTokenizer

    from training.artifacts.rendering import Renderer
    from training.data.rendering import usable_rows

    try:
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer)
    except (OSError, ValueError) as error:
        raise UserError(f"no tokenizer in {config.tokenizer} ({str(error).splitlines()[0]}): name a model") from None
    if config.kind == "pretraining":
        return [len(ids) for ids in tokenizer(list(records))["input_ids"]]
    conversations = [_with_longest_response(record) for record in records]
    prompts_only = config.kind == "prompts"
    rows = usable_rows(Renderer(tokenizer), conversations, config.context, reasons, generation=prompts_only)
    return [len(row) for row in rows if row is not None]


def _with_longest_response(record: Any) -> list[Any]:
    messages = list(record.messages)
    if isinstance(record, Comparison):
        longest = max(record.responses, key=lambda response: len(response.text))
        messages.append({"role": "assistant", "content": longest.text})
    return messages


def _clean_and_split(config: DataConfig, loaded: Loaded[Any]) -> None:
    """Hygiene and the split by user, in InstructGPT's order; both splits are written where --out is given."""
    kept = loaded if config.kind == "comparisons" else hygiene.without_repeats(loaded)
    train, validation = hygiene.split_by_user(kept.records, config.validation)
    if not train:
        raise UserError(f"every row of {config.source} fell into validation: lower --validation, or give more users")
    cleaned = hygiene.without_personal_information(replace(kept, records=train))
    by = "user" if any(record.user is not None for record in loaded.records) else "prompt"
    print(f"after hygiene: training {len(cleaned.records):,}, validation {len(validation):,} (split by {by})")
    _print_reasons(cleaned.skipped - loaded.skipped)
    if config.out is not None:
        for name, records in (("train", cleaned.records), ("validation", validation)):
            lines = "".join(_to_json(record) + "\n" for record in records)
            write_atomically(config.out / f"{name}.jsonl", lines)
            print(f"wrote {config.out / name}.jsonl")


def _to_json(record: Any) -> str:
    if isinstance(record, Comparison):
        return to_json(record)
    return json.dumps(asdict(record), sort_keys=True, ensure_ascii=False)
