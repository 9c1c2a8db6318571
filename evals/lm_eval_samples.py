"""Files `samples_TASK_DATE.jsonl` of lm-eval: one line per item and filter."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.checked import is_number, parsed
from evals.results import Item, prompt_hash
from training.artifacts.errors import UserError
from training.artifacts.files import lines_of

COLUMNS = ("doc_hash", "prompt_hash", "target_hash", "arguments", "metrics")
PASSAGES = ("passage", "context", "article", "paragraph")  # columns of a text that several questions may share
SHORTEST_PASSAGE = 80  # characters; shorter ones are instructions or titles, which say nothing of dependence
BITS_PER_BYTE = "bits_per_byte"  # (log-likelihood, bytes) per item


@dataclass(frozen=True)
class Sample:
    """A line.

    Attributes:
        id: of the document within its task.
        filter: that the answer went through.
        question: hash of the prompts, of every argument, the document and the target.
        prompt: the first prompt, for people.
        response: what came back; None for log-probabilities.
        passage: hash of the text that the question is about, None without one.
        scores: metric -> what lm-eval wrote for this item: a number, or something else.
    """

    id: str
    filter: str
    question: str
    prompt: str | None
    response: str | None
    passage: str | None
    scores: Mapping[str, Any]

    def key(self, metric: str) -> str:
        """Score name of a metric: as in lm-eval's results, without the filter where there is none."""
        return score_name(metric, self.filter)


def score_name(metric: str, filter_name: str) -> str:
    """`acc`, or `exact_match,strict-match` for a metric after a filter."""
    name = metric if filter_name == "none" else f"{metric},{filter_name}"
    return name.replace(".", "-")  # dots part the names of metrics


def read_samples(file: Path) -> list[Sample]:
    """The lines of a file.

    Raises:
        UserError: a line is not JSON or lacks a column, or a document occurs twice.
    """
    try:
        lines = lines_of(file)
    except OSError as error:  # a link to what was not copied, a folder, no right to read
        raise UserError(f"{file} cannot be read ({error.strerror}): copy it whole, or move it away") from None
    samples = [_sample(file, number, line) for number, line in enumerate(lines, 1)]
    repeated = sum(count - 1 for count in Counter((s.id, s.filter) for s in samples).values())
    if repeated:
        raise UserError(f"{file}: {repeated} lines repeat a document: the file holds two runs, measure again")
    if not samples:
        raise UserError(f"{file} is empty: measure again")
    return samples


def items_of(samples: Sequence[Sample], suite: str, task: str, usable: frozenset[str]) -> list[Item]:
    """One item per document, with the usable scores of all its filters."""
    documents: dict[str, list[Sample]] = {}
    for sample in samples:
        documents.setdefault(sample.id, []).append(sample)
    return [_item(lines, suite, task, usable) for lines in documents.values()]


def per_item(metric: str, value: Any) -> tuple[float | None, float] | None:
    """Value and weight of one item, the value None if it is missing; None where an item has no number."""
    if metric == BITS_PER_BYTE and isinstance(value, list | tuple) and len(value) == 2:
        loglikelihood, size = value
        if _is_number(loglikelihood) and _is_number(size) and size > 0:
            return -float(loglikelihood) / float(size) / math.log(2), float(size)
        return None
    if value is None:
        return None, 1.0
    return (float(value), 1.0) if _is_number(value) else None


def _item(lines: Sequence[Sample], suite: str, task: str, usable: frozenset[str]) -> Item:
    scores: dict[str, float | None] = {}
    weights: set[float] = set()
    for line in lines:
        for metric, value in line.scores.items():
            number = per_item(metric, value)
            if line.key(metric) in usable and number is not None:
                scores[line.key(metric)], weight = number
                weights.add(weight)
    first = lines[0]
    return Item(
        suite, task, first.id, first.prompt, prompt_hash([[line.filter, line.question] for line in lines]),
        first.response, None, scores, weight=max(weights, default=1.0), cluster=first.passage,
    )  # fmt: skip


def _sample(file: Path, number: int, line: str) -> Sample:
    try:
        row = parsed(line)
    except ValueError:
        raise UserError(f"{file}, line {number} is not JSON: the file is damaged, measure again") from None
    absent = [name for name in COLUMNS if not isinstance(row, dict) or name not in row]
    if absent:
        raise UserError(
            f"{file}, line {number} has no {' and no '.join(absent)}: measure again with --log_samples and lm-eval "
            "0.4.3 or newer"
        )
    metrics = row["metrics"]
    if not isinstance(metrics, list) or any(not isinstance(name, str) or name not in row for name in metrics):
        raise UserError(f"{file}, line {number} lacks the values of its metrics: the file is damaged, measure again")
    question = [row[name] for name in ("doc_hash", "prompt_hash", "target_hash", "arguments")]
    return Sample(
        str(row.get("doc_id", row["doc_hash"])), str(row.get("filter", "none")), prompt_hash(question),
        _first_prompt(row["arguments"]), _response(row.get("filtered_resps")), _passage(row.get("doc")),
        {str(metric): row[metric] for metric in metrics},
    )  # fmt: skip


def _first_prompt(arguments: Any) -> str | None:
    """Of {"gen_args_0": {"arg_0": prompt, ...}, ...}, or of a list of lists in older files."""
    prompt = _first(_first(arguments))
    return prompt if isinstance(prompt, str) else None


def _first(values: Any) -> Any:
    """The first of a list or table, None where it is neither or empty."""
    listed = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    return next(iter(listed), None)


def _response(responses: Any) -> str | None:
    first = responses[0] if isinstance(responses, list) and responses else None
    return first if isinstance(first, str) else None


def _passage(doc: Any) -> str | None:
    if not isinstance(doc, dict):
        return None
    texts = [doc[name] for name in PASSAGES if isinstance(doc.get(name), str)]
    text = next((text for text in texts if len(text) >= SHORTEST_PASSAGE), None)
    return None if text is None else hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | float) or is_number(value)
