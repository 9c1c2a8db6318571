"""Pretraining text: documents."""

from __future__ import annotations

from training.artifacts.layouts.messages import first_text
from training.artifacts.loading import UNKNOWN_COLUMNS, Loaded, Row
from training.artifacts.loading import load as load_rows
from training.artifacts.rows import Skip

NEEDS = "`text` (or `content`, or `document`), or a .txt file"


def load(source: str, *, limit: int | None = None, seed: int = 0) -> Loaded[str]:
    """Load documents from a file, folder or hub id; plain text is cut into them (`readers.plain_text`).

    Raises:
        UserError: there is no usable document.
    """
    return load_rows(source, parse, needs=NEEDS, limit=limit, seed=seed, documents=True)


def parse(row: Row) -> str:
    """A row's text. Raises `Skip` with the reason."""
    text = first_text(row, "text", "content", "document")
    if text is None:
        raise Skip(UNKNOWN_COLUMNS)
    if not text.strip():
        raise Skip("empty_document", "the document is empty")
    return text
