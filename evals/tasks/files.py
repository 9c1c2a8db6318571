"""Local files as lm-eval data sets. A row that cannot be used is skipped and counted with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from training.artifacts.errors import UserError
from training.artifacts.files import lines_of

Row = dict[str, Any]
FOLDER = Path(__file__).parent


class Unusable(Exception):
    """Why a row cannot be used."""


def kind_of(name: str) -> str:
    """The task file for a name: its own if there is one, otherwise that of any multiple-choice file."""
    return name if (FOLDER / f"{name}.yaml").is_file() else "choices"


def read(kind: str, path: Path) -> tuple[list[Row], Counter[str]]:
    """Rows of a file in the columns that the task file of `kind` names, and the skipped rows by reason.

    Raises:
        UserError: the file is missing or holds no usable row.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the data file of {kind} as --data {kind}=FILE")
    check = CHECKS[kind]
    rows: list[Row] = []
    skipped: Counter[str] = Counter()
    for number, raw in enumerate(_raw(path)):
        try:
            if isinstance(raw, str):
                raise Unusable(raw)
            rows.append(check(raw) | {"id": str(raw.get("id", number))})
        except Unusable as reason:
            skipped[str(reason)] += 1
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            skipped[f"column missing or malformed: {error}"] += 1
    if not rows:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in skipped.most_common(3)) or "it is empty"
        raise UserError(f"{path} holds no usable row for {kind} ({reasons})")
    return rows, skipped


def hellaswag(path: str, limit: int | None = None, **_: Any) -> datasets.DatasetDict:
    return _dataset("hellaswag", path, limit)


def winogrande(path: str, limit: int | None = None, **_: Any) -> datasets.DatasetDict:
    return _dataset("winogrande", path, limit)


def choices(path: str, limit: int | None = None, **_: Any) -> datasets.DatasetDict:
    return _dataset("choices", path, limit)


def cloze(path: str, limit: int | None = None, **_: Any) -> datasets.DatasetDict:
    return _dataset("cloze", path, limit)


def heldout(path: str, limit: int | None = None, **_: Any) -> datasets.DatasetDict:
    return _dataset("heldout", path, limit)


def _dataset(kind: str, path: str, limit: int | None) -> datasets.DatasetDict:
    rows, _ = read(kind, Path(path))
    return datasets.DatasetDict({"validation": datasets.Dataset.from_list(rows[:limit])})


def _raw(path: Path) -> Iterator[Row | str]:
    """Rows of a JSONL file, or the lines of a text file as {"text"}; a line that is no JSON object as its reason."""
    for line in lines_of(path):
        if path.suffix == ".txt":
            yield {"text": line.strip()}
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            yield "not valid JSON"
            continue
        yield row if isinstance(row, dict) else "not a JSON object"


def _hellaswag(row: Mapping[str, Any]) -> Row:
    from lm_eval.tasks.hellaswag.utils import preprocess  # the official clean-up

    endings = [preprocess(ending) for ending in row["endings"]]
    context = row["ctx_a"] + " " + row["ctx_b"].capitalize()
    query = preprocess(row["activity_label"] + ": " + context)
    return {"query": query, "choices": _filled(endings), "label": _gold(row["label"], endings)}


def _winogrande(row: Mapping[str, Any]) -> Row:
    options = _filled(row["context_options"])
    _filled([row["continuation"]])
    return {
        "context_options": options,
        "continuation": row["continuation"].strip(),
        "gold": _gold(row["gold"], options),
    }


def _choices(row: Mapping[str, Any]) -> Row:
    options = _filled([str(choice) for choice in row["choices"]])
    _filled([row["query"]])
    return {"query": row["query"].rstrip(), "choices": options, "gold": _gold(row["gold"], options)}


def _cloze(row: Mapping[str, Any]) -> Row:
    _filled([row["prompt"], row["answer"]])
    return {"prompt": row["prompt"].rstrip(), "answer": row["answer"].strip()} | {
        name: str(row[name]) for name in ("skill", "kind") if name in row
    }


def _heldout(row: Mapping[str, Any]) -> Row:
    _filled([row["text"]])
    if len(row["text"].split()) < 2:
        raise Unusable("fewer than two words")
    return {"text": row["text"]}


def _filled(texts: list[str]) -> list[str]:
    if any(not isinstance(text, str) or not text.strip() for text in texts):
        raise Unusable("an empty text")
    return texts


def _gold(value: Any, options: list[str]) -> int:
    index = int(value)
    if not 0 <= index < len(options):
        raise Unusable("the gold label names no choice")
    return index


CHECKS: dict[str, Callable[[Mapping[str, Any]], Row]] = {
    "hellaswag": _hellaswag,
    "winogrande": _winogrande,
    "choices": _choices,
    "cloze": _cloze,
    "heldout": _heldout,
}
