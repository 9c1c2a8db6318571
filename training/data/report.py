"""`python -m training data`: what a data file holds, what would be used of it, and hygiene."""

from __future__ import annotations

import json
import tempfile
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
from training.artifacts.rendering import Rendered, Renderer, show
from training.data import hygiene, reading, rendering
from training.data.documents import document_marks
from training.data.items import Example, Examples, Ranking, Rankings, Rows
from training.runtime.configuration import parse
from training.stages.limits import CONTEXT, PROMPT, split_documents

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
    _add_lengths(table, "characters", [sum(map(len, _texts(record))) for record in loaded.records])
    if config.tokenizer is None:
        Console().print(table)
    else:
        _print_rendered(config, config.tokenizer, table, loaded.skipped)
    if config.kind != "pretraining":
        _clean_and_split(config, loaded)
    return 0


def check(config: DataConfig) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is read."""
    if not 0 <= config.validation < 1:
        raise UserError(f"--validation {config.validation} is no share: use a number from 0 up to, not including, 1")
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
    _print_reasons(loaded.skipped)
    if loaded.ignored:
        print(f"  columns that are not used: {', '.join(sorted(loaded.ignored))}")
    if config.kind == "comparisons":
        ks = [len(c.responses) for c in loaded.records]
        pairs = [outcome for c in loaded.records for _, _, outcome in pairs_of(c)]
        print(f"  responses per prompt {min(ks)} to {max(ks)}, pairs {len(pairs):,}, of them tied {pairs.count(0):,}")


def _print_reasons(reasons: Mapping[str, int]) -> None:
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        print(f"  left out {count:,}: {reason}")


def _add_lengths(table: Table, name: str, lengths: Sequence[int]) -> None:
    if len(lengths):
        high = sorted(lengths)[min(len(lengths) - 1, int(0.95 * len(lengths)))]
        table.add_row(name, f"{median(lengths):,.0f}", f"{high:,}", f"{max(lengths):,}")


def _texts(record: Any) -> list[str]:
    return [record] if isinstance(record, str) else hygiene.texts_of(record)


def _print_rendered(config: DataConfig, tokenizer_name: str, table: Table, skipped: Counter[str]) -> None:
    """Tokens per row (of a comparison, those of its longest response with the prompt), what a stage would leave out,
    and the rows to be shown.

    Args:
        skipped: what was left out before, and is printed already.
    """
    tokenizer = _tokenizer(tokenizer_name)
    with tempfile.TemporaryDirectory() as folder:
        rows = _rendered(config, tokenizer, Path(folder))
        _add_lengths(table, "tokens", _token_counts(rows.items))
        Console().print(table)
        _print_reasons(rows.usage.skipped - skipped)
        for remark, count in rows.usage.noted.items():
            if not remark.startswith("column "):  # printed already
                print(f"  {count:,} x {remark}")
        for number in range(min(config.show, len(rows))):
            for rendered in _shown(rows.items, number):
                Console().print(show(tokenizer, rendered), "\n", soft_wrap=True)


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"no tokenizer in {name} ({str(error).splitlines()[0]}): name a model") from None


def _rendered(config: DataConfig, tokenizer: Any, home: Path) -> Rows[Any]:
    """The rows as a stage would read them."""
    if config.kind == "pretraining":
        selection = reading.select(home, reading.DOCUMENTS, config.source, limit=config.limit)
        rows = rendering.documents(home, selection, tokenizer, document_marks(tokenizer))
        return split_documents(rows, config.context)
    renderer = Renderer(tokenizer)
    if config.kind == "prompts":
        selection = reading.select(home, reading.PROMPTS, config.source, limit=config.limit)
        return rendering.prompts(home, selection, renderer, min(PROMPT, config.context))
    if config.kind == "comparisons":
        selection = reading.select(home, reading.COMPARISONS, config.source, limit=config.limit)
        return rendering.comparisons(home, selection, renderer, config.context)
    selection = reading.select(home, reading.DEMONSTRATIONS, config.source, limit=config.limit)
    return rendering.demonstrations(home, selection, renderer, config.context)


def _token_counts(items: Any) -> list[int]:
    if isinstance(items, Rankings):
        return [max(ranking.lengths) for ranking in items]
    ids = items.ids if isinstance(items, Examples) else items
    lengths: list[int] = ids.lengths.tolist()
    return lengths


def _shown(items: Any, number: int) -> list[Rendered]:
    """A row as it is rendered: of a comparison, one per response."""
    item = items[number]
    if isinstance(item, Ranking):
        return [Rendered(row, [0] * len(row)) for row in item.rows]
    if isinstance(item, Example):
        return [Rendered(item.ids.tolist(), item.mask.tolist())]
    return [Rendered(item.tolist(), [0] * len(item))]


def _clean_and_split(config: DataConfig, loaded: Loaded[Any]) -> None:
    """Hygiene and the split by user, in InstructGPT's order; both splits are written where --out is given."""
    distinct = loaded if config.kind == "comparisons" else hygiene.without_repeats(loaded)
    train, validation = hygiene.split_by_user(distinct.records, config.validation)
    if not train:
        raise UserError(f"every row of {config.source} fell into validation: lower --validation, or give more users")
    cleaned = hygiene.without_personal_information(replace(distinct, records=train))
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
