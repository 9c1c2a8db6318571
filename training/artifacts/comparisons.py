"""Comparisons of K responses to one prompt, as labelers gave them, and their frozen files."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from itertools import combinations
from pathlib import Path
from typing import Any

from training.artifacts.conversations import text_of
from training.artifacts.errors import UserError
from training.artifacts.files import check_hash, hash_file, write_atomically, write_hash
from training.artifacts.loading import load
from training.artifacts.skips import REASONS, Skip
from training.artifacts.text import is_broken

FORMAT = 1
AFTER_REVEAL = "after_reveal"  # in `meta`: the labeler had seen who wrote the responses
SIMULATED = "simulated"  # the group of stand-in labelers, whose rankings are not a person's


class ComparisonError(UserError):
    """A row or object that does not make a comparison. `reason` is the kind of fault, without the comparison's id."""

    def __init__(self, reason: str, id: str | None = None) -> None:
        super().__init__(reason if id is None else f"comparison {id}: {reason}")
        self.reason = reason


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
        responses: in stored order; `shown` has the order on screen.
        ranks: for each response, 1 = best; equal ranks are ties.
        derived: `ratings` where the reader of a data set made the ranks from ratings; None for ranks as given.
        pairs: (i, j, outcome) with outcome 1 when i is better, -1 when j is better, 0 for a tie.
        ratings: overall quality 1 to 7 of each response, or None; never derived from ranks.
        flags: for each response, names of problems that the labeler marked.
        all_bad: the labeler found no response acceptable.
        shown: shown[p] is the index of the response at screen position p.
        labeler: pseudonym.
        labeler_group: a label such as `training` or `heldout`; `simulated` where a stand-in labeler ranked.
        guideline: version of the guidelines on screen.
        user: pseudonym of the prompt's author; training and validation are split by it.
        prompt_id: groups the comparisons of one prompt.
        propensity: probability with which this set of responses was selected for the screen.
        supersedes: id of the comparison that this one corrects.
        created: time in UTC, ISO 8601.
        meta: anything else, unchanged.
        format: version of this schema.
    """

    id: str
    messages: tuple[Mapping[str, str], ...]
    responses: tuple[Response, ...]
    ranks: tuple[int, ...] | None = None
    pairs: tuple[tuple[int, int, int], ...] | None = None
    ratings: tuple[int | None, ...] | None = None
    flags: tuple[tuple[str, ...], ...] | None = None
    derived: str | None = None
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
            raise ComparisonError(problem, self.id)


def is_blind(comparison: Comparison) -> bool:
    """Whether the labeler judged before seeing who wrote the responses."""
    return not comparison.meta.get(AFTER_REVEAL)


def pairs_of(comparison: Comparison) -> list[tuple[int, int, int]]:
    """All C(K, 2) pairs (i, j, outcome) of a ranking, i < j; the comparison's own pairs where it has no ranks."""
    if comparison.pairs is not None:
        return list(comparison.pairs)
    ranks = comparison.ranks or ()
    return [(i, j, (ranks[i] < ranks[j]) - (ranks[i] > ranks[j])) for i, j in combinations(range(len(ranks)), 2)]


def freeze(comparisons: Iterable[Comparison], path: Path) -> tuple[str, int]:
    """Write comparisons as JSONL, one per line, without superseded ones, and their hash to PATH.sha256 beside it.

    One that was given after the names were shown supersedes none: training leaves it out, and the blind one counts.

    Returns:
        sha256 of the file, and its number of rows. The same comparisons give the same bytes.
    """
    rows = list(comparisons)
    superseded = {row.supersedes for row in rows if row.supersedes and is_blind(row)}
    current = sorted((row for row in rows if row.id not in superseded), key=lambda row: row.id)
    text = "".join(to_json(row) + "\n" for row in current)
    digest = hashlib.sha256(text.encode()).hexdigest()
    hash_file(path).unlink(missing_ok=True)  # never beside other bytes, whenever this process is killed
    write_atomically(path, text)
    write_hash(path, digest)
    return digest, len(current)


def read(path: Path, sha256: str | None = None) -> tuple[list[Comparison], Counter[str]]:
    """Read a frozen file.

    Args:
        sha256: when given, the file must have this hash.

    Returns:
        The comparisons, and the number of skipped rows by reason.

    Raises:
        UserError: the file is missing or damaged, has another hash than this or the one beside it, or holds no usable
            row.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a JSONL file of comparisons")
    loaded = load(str(path), _parse, needs="`id`, `messages`, `responses`, and `ranks` or `pairs`")
    check_hash(path, loaded.sha256)
    if sha256 is not None and loaded.sha256 != sha256:
        raise UserError(f"{path} does not have the recorded sha256: restore the frozen file")
    return loaded.records, loaded.skipped


def _parse(row: Mapping[str, Any]) -> Comparison:
    try:
        return from_row(row)
    except ComparisonError as error:
        raise Skip("not_a_comparison", error.reason) from None


def to_json(comparison: Comparison) -> str:
    """One line of JSON with sorted keys."""
    return json.dumps(asdict(comparison), sort_keys=True, ensure_ascii=False)


def from_json(line: str) -> Comparison:
    """Inverse of `to_json`. Raises `ComparisonError`."""
    try:
        row = json.loads(line)
    except ValueError:
        raise ComparisonError("not valid JSON") from None
    if not isinstance(row, dict):
        raise ComparisonError("not a JSON object")
    return from_row(row)


def from_row(row: Mapping[str, Any]) -> Comparison:
    """A comparison of a JSON object's fields; whole numbers may be written 2.0, and other fields are not read.

    Raises:
        ComparisonError: a field is missing or has another shape.
    """
    names = [f.name for f in dataclass_fields(Comparison) if f.name in row]
    fields = {name: row[name] for name in names if row[name] is not None}
    missing = [name for name in ("id", "messages", "responses") if name not in fields]
    if missing:
        raise ComparisonError(f"no field `{missing[0]}`")
    try:
        fields["messages"] = tuple(_message(message) for message in fields["messages"])
        fields["responses"] = tuple(_response(response) for response in fields["responses"])
        for name in {"ranks", "ratings", "shown"} & fields.keys():
            fields[name] = tuple(_as_whole(value) for value in fields[name])
        if "pairs" in fields:
            fields["pairs"] = tuple(tuple(_as_whole(value) for value in pair) for pair in fields["pairs"])
        if "flags" in fields:
            fields["flags"] = tuple(tuple(names) for names in fields["flags"])
        return Comparison(**fields)
    except (TypeError, AttributeError) as error:
        raise ComparisonError(f"wrong shape ({error})") from None


def _message(message: Any) -> Any:
    """The message with its content as text, where it is a list of text parts."""
    text = text_of(message["content"]) if isinstance(message, Mapping) and "content" in message else None
    return message if text is None else {**message, "content": text}


def _response(response: Mapping[str, Any]) -> Response:
    known = {f.name: response[f.name] for f in dataclass_fields(Response) if response.get(f.name) is not None}
    text = text_of(known.get("text"))
    return Response(**known if text is None else known | {"text": text})


def _as_whole(value: Any) -> Any:
    """2 for 2.0; None for the NaN that tables write where a number is missing."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


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
    if any(is_broken(text) for text in _texts(c)):
        return REASONS["half_character"]
    if (c.ranks is None) == (c.pairs is None):
        return "give either ranks or pairs"
    if c.ranks is not None and (len(c.ranks) != k or not all(_whole(r, 1, k) for r in c.ranks)):
        return "ranks must be K whole numbers from 1 to K"
    if c.derived not in (None, "ratings"):
        return "derived must be `ratings`"
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


def _texts(c: Comparison) -> Iterator[str]:
    """Every text that the comparison is written with."""
    yield from (m["content"] for m in c.messages)
    yield from (response.text for response in c.responses)
    yield from (name for names in c.flags or () for name in names)
    labels = (c.id, c.labeler, c.labeler_group, c.guideline, c.user, c.prompt_id, c.supersedes, c.created)
    yield from (label for label in labels if isinstance(label, str))
    others = [value for r in c.responses for value in (r.sampling, r.checkpoint, r.finish_reason) if value]
    if c.meta or others:
        yield json.dumps([c.meta, others], ensure_ascii=False, default=str)


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
