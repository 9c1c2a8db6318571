"""Local files as lm-eval data sets. A row that cannot be used is skipped and counted with its reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from training.artifacts.loading import TrackedRow, load
from training.artifacts.skips import Skip

Row = dict[str, Any]
WORD = re.compile(r"[!-~]+|[^\s!-~]")  # outside ASCII a character: many languages put no space between words
FOLDER = Path(__file__).parent


def kind_of(name: str) -> str:
    """The task file for a name: its own if there is one, otherwise that of any multiple-choice file."""
    return name if (FOLDER / f"{name}.yaml").is_file() else "choices"


def read(kind: str, path: Path) -> tuple[list[Row], Counter[str]]:
    """Rows of a source in the columns that the task file of `kind` names, and the skipped rows by reason.

    Raises:
        UserError: the source is missing or holds no usable row.
    """
    check = CHECKS[kind]

    def parse(row: TrackedRow) -> Row:
        try:
            return check(row) | {"id": str(row.get("id", row.number))}
        except KeyError as error:
            raise Skip("no_column", f"no column {error}") from None
        except (TypeError, ValueError, AttributeError, IndexError):
            raise Skip("malformed_column", "a column holds something else than it should") from None

    loaded = load(str(path), parse, needs=f"the columns of {kind}")
    return loaded.records, loaded.skipped


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


def _hellaswag(row: Mapping[str, Any]) -> Row:
    from lm_eval.tasks.hellaswag.utils import preprocess  # the official clean-up

    endings = [preprocess(ending) for ending in row["endings"]]
    context = row["ctx_a"] + " " + row["ctx_b"].capitalize()
    query = preprocess(row["activity_label"] + ": " + context)
    return {"query": query, "choices": _filled(endings), "label": _gold(row["label"], endings)}


def _winogrande(row: Mapping[str, Any]) -> Row:
    """A row with both contexts and what follows, or as its authors publish it: a sentence with a gap, two options."""
    if "sentence" in row:
        before, after = _sides_of_gap(row["sentence"])
        contexts = [(before + option).strip() for option in _filled([row["option1"], row["option2"]])]
        gold = _gold(int(row["answer"]) - 1 if row["answer"] else -1, contexts)
        return {"context_options": contexts, "continuation": after, "gold": gold}
    options = _filled(row["context_options"])
    _filled([row["continuation"]])
    return {
        "context_options": options,
        "continuation": row["continuation"].strip(),
        "gold": _gold(row["gold"], options),
    }


def _sides_of_gap(sentence: str) -> tuple[str, str]:
    sides = sentence.split("_")
    if len(sides) != 2 or not sides[1].strip():
        raise Skip("no_gap", "the sentence does not have one gap with words behind it")
    return sides[0], sides[1].strip()


def _choices(row: Mapping[str, Any]) -> Row:
    """A row with `query`, `choices`, `gold`, or as ARC's and OpenBookQA's authors and the hub publish them."""
    if "query" in row:
        options = _filled([str(choice) for choice in row["choices"]])
        _filled([row["query"]])
        return {"query": row["query"].rstrip(), "choices": options, "gold": _gold(row["gold"], options)}
    question = row["question_stem"] if "question_stem" in row else row["question"]
    listed = question["choices"] if isinstance(question, Mapping) else row["choices"]
    text = question["stem"] if isinstance(question, Mapping) else question
    texts, labels = _labelled(listed)
    _filled([text, *texts])
    key = str(row["answerKey"])
    if labels.count(key) != 1:
        raise Skip("no_choice", "the gold label names no choice")
    # The prompt of lm-eval's task, which published figures go by.
    return {"query": f"Question: {text.strip()}\nAnswer:", "choices": texts, "gold": labels.index(key)}


def _labelled(choices: Any) -> tuple[list[str], list[str]]:
    """Texts and labels of choices: a column of each, or a list with one of each."""
    if isinstance(choices, Mapping):
        texts, labels = list(choices["text"]), [str(label) for label in choices["label"]]
    else:
        texts, labels = [c["text"] for c in choices], [str(c["label"]) for c in choices]
    if len(texts) != len(labels) or len(texts) < 2:
        raise Skip("no_choices", "choices are not at least two texts with a label each")
    return texts, labels


def _cloze(row: Mapping[str, Any]) -> Row:
    _filled([row["prompt"], row["answer"]])
    return {"prompt": row["prompt"].rstrip(), "answer": row["answer"].strip()} | {
        name: str(row[name]) for name in ("skill", "kind") if name in row
    }


def _heldout(row: Mapping[str, Any]) -> Row:
    """A row of text; of plain text, a line."""
    text = row["line"].strip() if "line" in row else row["text"]
    _filled([text])
    if len(WORD.findall(text)) < 2:
        raise Skip("short_text", "fewer than two words")
    return {"text": text}


def _filled(texts: Sequence[Any]) -> list[str]:
    if isinstance(texts, str) or any(not isinstance(text, str) or not text.strip() for text in texts):
        raise Skip("empty_text", "an empty text")
    return list(texts)


def _gold(value: Any, options: list[str]) -> int:
    """Index of the right option. With a single option every answer would be right."""
    if len(options) < 2:
        raise Skip("no_choices", "fewer than two choices")
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise Skip("no_choice", "the gold label names no choice")
    index = int(value)
    if not 0 <= index < len(options):
        raise Skip("no_choice", "the gold label names no choice")
    return index


CHECKS: dict[str, Callable[[Mapping[str, Any]], Row]] = {
    "hellaswag": _hellaswag,
    "winogrande": _winogrande,
    "choices": _choices,
    "cloze": _cloze,
    "heldout": _heldout,
}
