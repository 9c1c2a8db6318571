"""Pretraining text: documents."""

from __future__ import annotations

from training.artifacts.layouts.columns import Layout, any_case, choose, column_text, first_filled, whole_text
from training.artifacts.layouts.faults import fault
from training.artifacts.loading import Loaded, Row
from training.artifacts.loading import load as load_rows

COLUMNS = ("text", "content", "document", "raw_content")
NEEDS = "`text` (or `content`, or `document`), or a .txt file"


def load(source: str, *, limit: int | None = None, seed: int = 0) -> Loaded[str]:
    """Load documents from a file, folder or hub id; plain text is cut into them (`readers.plain_text`).

    Raises:
        UserError: there is no usable document.
    """
    return load_rows(source, parse, needs=NEEDS, limit=limit, seed=seed, documents=True)


def parse(row: Row) -> str:
    """A row's text. Raises `Skip` with the reason."""
    row = any_case(row)
    text: str = choose(LAYOUTS, row).read(row)
    if not text.strip():
        raise fault("empty_document")
    return whole_text(text)


def _read(row: Row) -> str:
    return column_text(row, first_filled(row, COLUMNS) or COLUMNS[0])


LAYOUTS = (
    Layout("document", "pretraining", (COLUMNS,), "Text, or a list of text parts; nothing else is read.", _read),
)
