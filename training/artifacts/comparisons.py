"""Comparisons of K responses to one prompt, as a person gave them, and their frozen files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.files import split_lines, write_atomically

FORMAT = 1


@dataclass(frozen=True)
class Response:
    """One of the ranked responses.

    Attributes:
        text: the response as the labeler saw it.
        checkpoint: id of the checkpoint that wrote it, None for a person or an unknown source.
        sampling: temperature, top_p, max_tokens, seed and whatever else shaped the sample.
        finish_reason: `stop`, `length` or None when unknown.
    """

    text: str
    checkpoint: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None


@dataclass(frozen=True)
class Comparison:
    """K >= 2 responses to one prompt with the judgement of one labeler.

    Exactly one of `ranks` and `pairs` is given: pairs are derived from ranks (`pairs_of`), never the reverse.

    Attributes:
        id: unique.
        messages: the conversation so far, ending with the user.
        responses: in stored order; `shown` tells the order on screen.
        ranks: for each response, 1 = best; equal ranks are ties.
        pairs: (i, j, outcome) with outcome 1 when i is better, -1 when j is better, 0 for a tie.
        ratings: overall quality 1 to 7 of each response, or None; never derived from ranks.
        flags: for each response, names of problems that the labeler marked.
        all_bad: the labeler found no response acceptable.
        shown: shown[p] is the index of the response at screen position p.
        labeler: pseudonym.
        labeler_group: a label such as `training` or `heldout`.
        guideline: version of the guidelines on screen.
        user: pseudonym of the prompt's author; training and validation are split by it.
        prompt_id: groups the comparisons of one prompt.
        propensity: probability with which this set of responses was selected for the screen.
        supersedes: id of the comparison that this one corrects.
        created: time in UTC, ISO 8601.
        meta: anything else, unchanged.
    """

    id: str
    messages: tuple[Mapping[str, str], ...]
    responses: tuple[Response, ...]
    ranks: tuple[int, ...] | None = None
    pairs: tuple[tuple[int, int, int], ...] | None = None
    ratings: tuple[int | None, ...] | None = None
    flags: tuple[tuple[str, ...], ...] | None = None
    all_bad: bool = False
    shown: tuple[int, ...] | None = None
    labeler: str | None = None
    labeler_group: str | None = None
    guideline: str | None = None
    user: str | None = None
    prompt_id: str | None = None
    propensity: float | None = None
    supersedes: str | None = None
    created: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise UserError(f"comparison {self.id}: {problem}")


def pairs_of(comparison: Comparison) -> list[tuple[int, int, int]]:
    """All C(K, 2) pairs (i, j, outcome) of a ranking, i < j; the comparison's own pairs where it has no ranks."""
    if comparison.pairs is not None:
        return list(comparison.pairs)
    ranks = comparison.ranks or ()
    return [(i, j, (ranks[i] < ranks[j]) - (ranks[i] > ranks[j])) for i, j in combinations(range(len(ranks)), 2)]


def freeze(comparisons: Iterable[Comparison], path: Path) -> tuple[str, int]:
    """Write comparisons as JSONL, one per line, without superseded ones.

    Returns:
        sha256 of the file, and its number of rows. The same comparisons give the same bytes.
    """
    rows = list(comparisons)
    superseded = {row.supersedes for row in rows if row.supersedes}
    current = sorted((row for row in rows if row.id not in superseded), key=lambda row: row.id)
    text = "".join(to_json(row) + "\n" for row in current)
    write_atomically(path, text)
    return hashlib.sha256(text.encode()).hexdigest(), len(current)


def read(path: Path, sha256: str | None = None) -> tuple[list[Comparison], Counter[str]]:
    """Read a frozen file.

    Args:
        sha256: when given, the file must have this hash.

    Returns:
        The comparisons, and the number of skipped rows by reason.

    Raises:
        UserError: the file is missing, has another hash, or holds no usable row.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a JSONL file of comparisons")
    raw = path.read_bytes()
    if sha256 and hashlib.sha256(raw).hexdigest() != sha256:
        raise UserError(f"{path} does not have the recorded sha256: restore the frozen file")
    rows: list[Comparison] = []
    skipped: Counter[str] = Counter()
    for line in split_lines(raw.decode("utf-8", errors="replace")):
        try:
            rows.append(from_json(line))
        except UserError as error:
            skipped[str(error).split(": ", 1)[-1]] += 1
    if not rows:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in skipped.most_common(3)) or "it is empty"
        raise UserError(f"{path} holds no usable comparison ({reasons})")
    return rows, skipped


def to_json(comparison: Comparison) -> str:
    """One line of JSON with sorted keys."""
    return json.dumps(asdict(comparison), sort_keys=True, ensure_ascii=False)


def from_json(line: str) -> Comparison:
    """Inverse of `to_json`. Raises `UserError` with the reason."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        raise UserError("not valid JSON") from None
    if not isinstance(row, dict):
        raise UserError("not a JSON object")
    return from_row(row)


def from_row(fields: Mapping[str, Any]) -> Comparison:
    """A comparison of a JSON object's fields. Raises `UserError` with the reason."""
    row = dict(fields)
    missing = [name for name in ("id", "messages", "responses") if name not in row]
    if missing:
        raise UserError(f"no field `{missing[0]}`")
    unknown = sorted(set(row) - set(Comparison.__dataclass_fields__))
    if unknown:
        raise UserError(f"unknown field `{unknown[0]}`")
    try:
        row["messages"] = tuple(row["messages"])
        row["responses"] = tuple(Response(**response) for response in row["responses"])
        for name in ("ranks", "ratings", "shown"):
            row[name] = None if row.get(name) is None else tuple(row[name])
        for name in ("pairs", "flags"):
            row[name] = None if row.get(name) is None else tuple(tuple(entry) for entry in row[name])
        return Comparison(**row)
    except TypeError as error:
        raise UserError(f"wrong shape ({error})") from None


def _problem(c: Comparison) -> str | None:
    """The first reason why a comparison is not one, or None."""
    k = len(c.responses)
    if c.format != FORMAT:
        return f"format {c.format} is not {FORMAT}"
    if k < 2:
        return "fewer than two responses"
    if not c.messages or not all(
        isinstance(m, Mapping) and "role" in m and isinstance(m.get("content"), str) for m in c.messages
    ):
        return "the prompt has no well-formed messages"
    if not all(isinstance(response.text, str) for response in c.responses):
        return "a response is not text"
    if (c.ranks is None) == (c.pairs is None):
        return "give either ranks or pairs"
    if c.ranks is not None and (len(c.ranks) != k or not all(_whole(r, 1, k) for r in c.ranks)):
        return f"ranks must be {k} whole numbers from 1 to {k}"
    if c.pairs is not None and not _pairs_fit(c.pairs, k):
        return "pairs must be (i, j, outcome) with i != j below K and outcome 1, 0 or -1"
    for name in ("ratings", "flags"):
        values: Sequence[object] | None = getattr(c, name)
        if values is not None and len(values) != k:
            return f"{name} must have one entry per response"
    if c.ratings is not None and not all(r is None or _whole(r, 1, 7) for r in c.ratings):
        return "ratings must be whole numbers from 1 to 7"
    if c.shown is not None and sorted(c.shown) != list(range(k)):
        return "shown must be an order of the responses"
    return None


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _pairs_fit(pairs: Sequence[tuple[int, int, int]], k: int) -> bool:
    return bool(pairs) and all(
        len(pair) == 3
        and _whole(pair[0], 0, k - 1)
        and _whole(pair[1], 0, k - 1)
        and pair[0] != pair[1]
        and pair[2] in (-1, 0, 1)
        for pair in pairs
    )
