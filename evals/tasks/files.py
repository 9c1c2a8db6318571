"""Rows of local files for the tax's tasks. A row that cannot be used is skipped and counted with its reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.tasks.layouts import NotOfficial, filled, index, official, texts
from training.artifacts.errors import UserError
from training.artifacts.loading import Loaded, TrackedRow, load
from training.artifacts.rows import Source, open_source
from training.artifacts.skips import Skip

Row = dict[str, Any]
WORD = re.compile(r"[!-~]+|[^\s!-~]")  # outside ASCII a character: many languages put no space between words
FOLDER = Path(__file__).parent
GENERIC = {"query", "choices", "gold"}


@dataclass(frozen=True)
class Rows:
    """Rows of one source in the columns of their task.

    Attributes:
        kind: a benchmark of `layouts.OFFICIAL`, one of OURS, or `hub`: the columns are passed on as they are.
        rows: usable rows.
        ids: of each row: its own `id` where all differ, otherwise its number in the source.
        training: rows of the source's split for few-shot examples, empty without one.
        summary: path, sha256, rows, skipped rows by reason, and where it applies a `note` on whose prompt it is.
    """

    kind: str
    rows: list[Row]
    ids: list[str]
    training: list[Row]
    summary: Mapping[str, Any]


def split_name(name: str) -> tuple[str, str]:
    """`cloze:skills` is the task `skills` of kind `cloze`; otherwise the name says both."""
    kind, separator, task = name.partition(":")
    return (kind, task) if separator else (name, name)


def kind_of(name: str) -> str:
    """How the rows of a named file are read: as the benchmark of that name, as one of OURS, or as multiple choice."""
    known = official(name)
    if known is not None:
        return known.task
    return name if name in OURS else "choices"


def columns_of(source: str) -> set[str]:
    """Columns of the first row that can be read; empty where there is none."""
    for row in open_source(source).rows():
        if not isinstance(row, Skip):
            return set(row)
    return set()


def read(kind: str, path: str | Path) -> tuple[list[Row], Counter[str]]:
    """Rows of a source in the columns that the task of `kind` reads, each with an `id`, and skipped rows by reason.

    Raises:
        UserError: the source is missing or holds no usable row.
    """
    loaded = _load(kind, str(path))
    return loaded.records, loaded.skipped


def read_task(
    kind: str,
    source: str,
    evaluated: str | None = None,
    few_shot: str | None = None,
    filled_columns: Collection[str] = (),
) -> Rows:
    """Rows of a task's file or folder.

    Args:
        kind: see `Rows.kind`.
        source: as `open_source` takes it; of a folder with several splits, the evaluated one and that for few-shot
            examples are read.
        evaluated, few_shot: names of these splits in lm-eval's task.
        filled_columns: of the hub's layout, columns that every row needs: without, lm-eval would ask about "None".

    Raises:
        UserError: the source is missing or holds no usable row.
    """
    opened = _opened(source, evaluated)
    note = None
    try:
        loaded = _load(kind, opened.name, filled_columns)
    except UserError as error:
        reason = _lost_choices(kind, opened.name)
        if reason is None:
            raise error
        loaded, kind, note = _load("choices", opened.name), "choices", f"the file holds {reason}: the prompt is ours"
    if kind == "choices" and note is None:
        note = "multiple choice of our own: query, a space, choice"
    training: list[Row] = []
    if few_shot and few_shot in opened.splits and few_shot != opened.split:
        training = _load(kind, f"{source}@{few_shot}", filled_columns).records
    ids = [str(row.get("id", number)) for number, row in enumerate(loaded.records)]
    if len(set(ids)) < len(ids):
        ids = [str(number) for number in range(len(loaded.records))]
    if not _keeps_ids(kind):
        loaded = Loaded(
            [{k: v for k, v in row.items() if k != "id"} for row in loaded.records],
            loaded.sha256, loaded.rows, loaded.skipped, loaded.source,
        )  # fmt: skip
        training = [{k: v for k, v in row.items() if k != "id"} for row in training]
    summary = loaded.summary() | {"rows": len(loaded.records)} | ({"note": note} if note else {})
    return Rows(kind, loaded.records, ids, training, summary)


def _keeps_ids(kind: str) -> bool:
    """The hub's own rows may need their column `id`; in the others it would stand beside columns that lm-eval knows."""
    return kind == "hub" or kind in OURS


def _opened(source: str, evaluated: str | None) -> Source:
    """The source at the split that lm-eval evaluates, where it has several and none is named."""
    try:
        opened = open_source(source)
    except UserError:
        if evaluated is None:
            raise
        return open_source(f"{source}@{evaluated}")
    several = len(opened.splits) > 1 and not source.endswith(f"@{opened.split}")
    if several and evaluated in opened.splits:
        return open_source(f"{source}@{evaluated}")
    return opened


def _lost_choices(kind: str, source: str) -> str | None:
    """What a gauntlet's file holds less than its benchmark, None where it can be asked as the benchmark."""
    known = official(kind)
    if known is None or not columns_of(source) >= GENERIC:
        return None
    try:
        row = next(row for row in open_source(source).rows() if not isinstance(row, Skip))
        known.columns(row)
    except NotOfficial as reason:
        return reason.reason
    except (KeyError, TypeError, ValueError, Skip):
        return None
    return None


def _load(kind: str, source: str, filled_columns: Collection[str] = ()) -> Loaded[Row]:
    known = official(kind)
    check = known.columns if known else OURS.get(kind, _as_it_is)

    def parse(row: TrackedRow) -> Row:
        try:
            for column in filled_columns:
                if row[column] is None:
                    raise KeyError(column)
            return {"id": str(row.get("id", row.number))} | check(row)
        except KeyError as error:
            raise Skip("no_column", f"no column {error}") from None
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError):
            raise Skip("malformed_column", "a column holds something else than it should") from None

    return load(source, parse, needs=f"the columns of {kind}")


def _as_it_is(row: Mapping[str, Any]) -> Row:
    return dict(row)


def _multiple_choice(row: Mapping[str, Any]) -> Row:
    options = texts([str(choice) for choice in row["choices"]])
    return {"query": filled(row["query"]).rstrip(), "choices": options, "gold": index(row["gold"], options)}


def _cloze(row: Mapping[str, Any]) -> Row:
    return {"prompt": filled(row["prompt"]).rstrip(), "answer": filled(row["answer"]).strip()} | {
        name: str(row[name]) for name in ("skill", "kind") if name in row
    }


def _heldout(row: Mapping[str, Any]) -> Row:
    """A row of text; of plain text, a line."""
    text = filled(row["line"].strip() if "line" in row else row["text"])
    if len(WORD.findall(text)) < 2:
        raise Skip("short_text", "fewer than two words")
    return {"text": text}


OURS: dict[str, Callable[[Mapping[str, Any]], Row]] = {
    "choices": _multiple_choice,
    "cloze": _cloze,
    "heldout": _heldout,
}


def dataset(rows: Sequence[Row], name: str) -> Any:
    """Rows as `datasets` holds them. Raises `UserError` where a column mixes types."""
    import datasets
    import pyarrow as pa

    try:
        return datasets.Dataset.from_list(list(rows))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(
            f"{name}: a column holds values of several types ({str(error).splitlines()[0]}): write one type"
        ) from None
