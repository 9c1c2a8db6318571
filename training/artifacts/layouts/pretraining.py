"""Pretraining text: documents."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file
from training.artifacts.layouts.columns import Layout, any_case, choose, column_text, first_filled, whole_text
from training.artifacts.loading import Loaded, Row
from training.artifacts.loading import load as load_rows
from training.artifacts.rows import Skip, kind_of, read_text

COLUMNS = ("text", "content", "document", "raw_content")
NEEDS = "`text` (or `content`, or `document`), or a .txt file"
HEADING = re.compile(r"^ ?= (?!=)[^\n]*[^=\n] = *$", re.MULTILINE)  # WikiText's titles; its sections have more signs


def load(source: str, *, split: str | None = None, limit: int | None = None) -> Loaded[str]:
    """Load documents from a file, folder or hub id; plain text is cut by `documents`.

    Raises:
        UserError: there is no usable document.
    """
    path = Path(source).expanduser()
    if not (path.is_file() and kind_of(path) == ".txt"):
        return load_rows(source, parse, needs=NEEDS, split=split, limit=limit)
    if split is not None:
        raise UserError(f"{source} is plain text and has no splits: leave --split out, or give the file of that split")
    texts = documents(read_text(path))[:limit]
    loaded = Loaded(texts, sha256_file(path), len(texts), Counter(), source)
    loaded.require_records()
    return loaded


def parse(row: Row) -> str:
    """A row's text. Raises `Skip` with the reason."""
    row = any_case(row)
    text: str = choose(LAYOUTS, row).read(row)
    if not text.strip():
        raise Skip("the document is empty")
    return whole_text(text)


def _read(row: Row) -> str:
    return column_text(row, first_filled(row, COLUMNS) or COLUMNS[0])


def documents(text: str) -> list[str]:
    """Cut plain text: into articles at WikiText's headings where it has them, else into paragraphs at blank lines."""
    starts = [match.start() for match in HEADING.finditer(text)]
    if starts:
        edges = [0, *starts, len(text)]
        parts = [text[a:b] for a, b in pairwise(edges)]
    else:
        parts = re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n"))
    return [part.strip() for part in parts if part.strip()]


LAYOUTS = (
    Layout("document", "pretraining", (COLUMNS,), "Text, or a list of text parts; nothing else is read.", _read),
)
