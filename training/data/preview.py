"""What a model would read of a data file: tokens per row, rows left out, and rendered rows to look at."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from training.artifacts.errors import UserError
from training.artifacts.rendering import Rendered, Renderer, show
from training.data import lengths, reading, rendering, splits
from training.data.documents import document_marks
from training.data.items import Example, Examples, Ranking, Rankings, Rows
from training.data.report import DataConfig, add_lengths, print_reasons


def print_rendered(config: DataConfig, tokenizer_name: str, table: Table, skipped: Counter[str]) -> None:
    """Tokens per row (of a comparison, those of its longest response with the prompt), what a stage would leave out,
    and the rows to be shown.

    Args:
        skipped: what was left out before, and is printed already.
    """
    tokenizer = _tokenizer(tokenizer_name)
    with tempfile.TemporaryDirectory() as folder:
        rows = _rendered(config, tokenizer, Path(folder))
        add_lengths(table, "tokens", _token_counts(rows.items))
        Console().print(table)
        print_reasons(rows.usage.skipped - skipped)
        for remark, count in rows.usage.noted.items():
            print(f"  {count:,} x {remark}")
        for number in range(min(config.show, len(rows))):
            for rendered in _shown(rows.items, number):
                Console().print(show(tokenizer, rendered), "\n", soft_wrap=True)


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"no tokenizer in {name} ({str(error).splitlines()[0]}): name a model") from None


def _rendered(config: DataConfig, tokenizer: Any, home: Path) -> Rows[Any]:
    """The rows as a stage would read them."""
    if config.kind == "pretraining":
        selection = reading.select(reading.DOCUMENTS, config.source, limit=config.limit)
        rows = rendering.documents(home, selection, tokenizer, document_marks(tokenizer))
        return splits.split_documents(rows, config.context)
    renderer = Renderer(tokenizer)
    if config.kind != "prompts":
        renderer.require_end()  # as the stages do
    if config.kind == "prompts":
        selection = reading.select(reading.PROMPTS, config.source, limit=config.limit)
        return rendering.prompts(home, selection, renderer, min(lengths.PROMPT, config.context))
    if config.kind == "comparisons":
        selection = reading.select(reading.COMPARISONS, config.source, limit=config.limit)
        return rendering.comparisons(home, selection, renderer, config.context)
    selection = reading.select(reading.DEMONSTRATIONS, config.source, limit=config.limit)
    return rendering.demonstrations(home, selection, renderer, config.context)


def _token_counts(items: Any) -> list[int]:
    if isinstance(items, Rankings):
        return [max(ranking.lengths) for ranking in items]
    ids = items.ids if isinstance(items, Examples) else items
    counts: list[int] = ids.lengths.tolist()
    return counts


def _shown(items: Any, number: int) -> list[Rendered]:
    """A row as it is rendered: of a comparison, one per response."""
    item = items[number]
    if isinstance(item, Ranking):
        return [Rendered(row, [0] * len(row)) for row in item.rows]
    if isinstance(item, Example):
        return [Rendered(item.ids.tolist(), item.mask.tolist())]
    return [Rendered(item.tolist(), [0] * len(item))]
