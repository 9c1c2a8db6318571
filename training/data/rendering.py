"""Records as token ids, rendered in parts into memory-mapped arrays; at a second start they come from the cache."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from training.artifacts import progress
from training.artifacts.comparisons import Comparison, pairs_of
from training.artifacts.conversations import Refusal, sentence
from training.artifacts.files import sha256_file
from training.artifacts.rendering import Rendered, Renderer
from training.data import reading
from training.data.cache import Cached, Writer, cached
from training.data.documents import DocumentMarks, encode_documents
from training.data.hygiene import hash_fraction, texts_of
from training.data.items import Examples, Rankings, Rows
from training.data.ragged import Ragged
from training.data.reading import DataKind, Entry, Selection
from training.data.usage import SourceUsage, Usage, from_summary, summary

PART_RECORDS = 2000  # rendered together
PART_CHARACTERS = 4_000_000  # of a part at most, unless a single record is longer
CODE = ("artifacts", "data")  # folders of the code that turns rows into token ids
CUT = "length"  # finish reason of a response that was cut off
CUT_OFF = "a response that was cut off at its length limit"

DTYPES = {
    "ids": np.int32,
    "lengths": np.int32,
    "turns": np.int32,
    "turn_counts": np.int32,
    "response_counts": np.int32,
    "pairs": np.int32,
    "pair_counts": np.int32,
    "groups": np.int32,
    "sources": np.int32,
    "contents": np.uint64,
    "user_fractions": np.float64,
    "prompt_fractions": np.float64,
}
Columns = defaultdict[str, list[Any]]
"""Values of a part by the name of their array."""
Render = Callable[[Sequence[Entry], Sequence[SourceUsage]], Columns]


def demonstrations(home: Path, selection: Selection, renderer: Renderer, context: int) -> Rows[Examples]:
    """Conversations of at most `context` tokens, with what is learned of them."""

    def render(part: Sequence[Entry], usages: Sequence[SourceUsage]) -> Columns:
        columns: Columns = defaultdict(list)
        conversations = [entry.record.messages for entry in part]
        for entry, row in zip(part, renderer.render(conversations, learn=True, longest=context), strict=True):
            usage = usages[entry.source]
            if isinstance(row, Refusal):
                usage.skipped[sentence(row)] += 1
                continue
            if row.context_turns:
                usage.noted["earlier assistant turns are context only, as the chat template rewrites them"] += 1
            turns = stretches(row.mask)
            columns["turns"] += turns
            columns["turn_counts"].append(len(turns))
            _add_row(columns, row.ids)
            _add_facts(columns, entry, row_hash(row.ids))
        return columns

    shape = {**_shape(renderer), "context": context}
    stored, usage = _rendered(home, selection, reading.DEMONSTRATIONS, shape, render)
    return _rows(stored, Examples(_ids(stored), Ragged(_array(stored, "turns"), _array(stored, "turn_counts"))), usage)


def comparisons(home: Path, selection: Selection, renderer: Renderer, context: int) -> Rows[Rankings]:
    """Comparisons as one row per response, each of at most `context` tokens, with the decided pairs among them.

    A response that was cut off at its length limit is left out of its comparison: rendered as a finished one it
    would teach that its last words end an answer.
    """
    groups: dict[str, int] = {}

    def render(part: Sequence[Entry], usages: Sequence[SourceUsage]) -> Columns:
        columns: Columns = defaultdict(list)
        conversations = [
            [*entry.record.messages, {"role": "assistant", "content": response.text}]
            for entry in part
            for response in entry.record.responses
            if response.finish_reason != CUT
        ]
        rendered = iter(renderer.render(conversations, longest=context))
        for entry in part:
            rows = [None if r.finish_reason == CUT else next(rendered) for r in entry.record.responses]
            _add_ranking(columns, entry, rows, usages[entry.source], groups)
        return columns

    shape = {**_shape(renderer), "context": context}
    stored, usage = _rendered(
        home, selection, reading.COMPARISONS, shape, render, facts=lambda: {"groups": list(groups)}
    )
    counts = _array(stored, "response_counts")
    places = Ragged(np.arange(int(counts.sum(dtype=np.int64))), counts)
    pairs = Ragged(_array(stored, "pairs"), _array(stored, "pair_counts"))
    rankings = Rankings(_ids(stored), places, pairs, _array(stored, "groups"), stored.facts["groups"])
    return _rows(stored, rankings, usage)


def prompts(home: Path, selection: Selection, renderer: Renderer, longest: int) -> Rows[Ragged]:
    """Prompts of at most `longest` tokens, each with the header of the answer to come. A longer one is never cut."""

    def render(part: Sequence[Entry], usages: Sequence[SourceUsage]) -> Columns:
        columns: Columns = defaultdict(list)
        rendered = renderer.prompts([entry.record.messages for entry in part], longest=longest)
        for entry, row in zip(part, rendered, strict=True):
            if isinstance(row, Refusal):
                usages[entry.source].skipped[sentence(row)] += 1
                continue
            _add_row(columns, row.ids)
            _add_facts(columns, entry, row_hash(row.ids))
        return columns

    shape = {**_shape(renderer), "prompts": longest}
    stored, usage = _rendered(home, selection, reading.PROMPTS, shape, render)
    return _rows(stored, _ids(stored), usage)


def documents(
    home: Path, selection: Selection, tokenizer: Any, marks: DocumentMarks, size: int | None = None
) -> Rows[Ragged]:
    """Whole documents between their marks, of any length: stages cut them (`Ragged.cut`, `Packed`).

    Args:
        size: number of token ids that the model has weights for, where the tokenizer may have been given more.
    """

    def render(part: Sequence[Entry], usages: Sequence[SourceUsage]) -> Columns:
        columns: Columns = defaultdict(list)
        for entry, ids in zip(part, encode_documents(tokenizer, [entry.record for entry in part], marks), strict=True):
            if size is not None and max(ids) >= size:
                refusal = Refusal("unknown_token", str(tokenizer.convert_ids_to_tokens(max(ids))))
                usages[entry.source].skipped[sentence(refusal)] += 1
                continue
            _add_row(columns, ids)
            _add_facts(columns, entry, row_hash(ids))
        return columns

    shape = {"tokenizer": tokenizer_hash(tokenizer), "marks": [list(marks.begin), marks.end], "size": size}
    stored, usage = _rendered(home, selection, reading.DOCUMENTS, shape, render)
    return _rows(stored, _ids(stored), usage)


def tokenizer_hash(tokenizer: Any) -> str:
    """sha256 of all that shapes token ids: the tokenizer itself, its special tokens and its chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    rest = json.dumps([tokenizer.special_tokens_map, tokenizer.chat_template], sort_keys=True, default=str)
    return hashlib.sha256(f"{model}\0{rest}".encode()).hexdigest()


def stretches(mask: Sequence[int]) -> list[int]:
    """Start and length of every run of ones, one after the other: (0, 1, 1, 0, 1) gives (1, 2, 4, 1)."""
    marks, runs = bytes(mask), []
    start = marks.find(1)
    while start >= 0:
        end = marks.find(0, start)
        end = len(marks) if end < 0 else end
        runs += [start, end - start]
        start = marks.find(1, end)
    return runs


def _rendered(
    home: Path,
    selection: Selection,
    kind: DataKind,
    shape: Mapping[str, Any],
    render: Render,
    facts: Callable[[], Mapping[str, Any]] = dict,
) -> tuple[Cached, Usage]:
    """The arrays of a selection, rendered part by part unless they are in the cache; and what was used."""
    prints = [reading.fingerprint(source, kind) for source in selection.sources]
    sources = [SourceUsage(path, sha256) for path, (sha256, _) in zip(selection.sources, prints, strict=True)]
    key = {
        "kind": kind.role,
        "code": _code_hash(),
        "sources": prints,
        "limit": None if selection.limit is None else [selection.limit, selection.seed],
        "hygiene": selection.hygiene,
        "revealed": selection.revealed,
        **shape,
    }

    def build(writer: Writer) -> Mapping[str, Any]:
        with progress.bar(f"rendering {selection.role}") as bar:
            for part in _parts(reading.entries(selection, kind, sources)):
                for name, values in render(part, sources).items():
                    writer.append(name, values, DTYPES[name])
                bar.advance(len(part))
        return {**facts(), "sources": [summary(source) for source in sources]}

    stored = cached(home, key, build)
    paths = zip(selection.sources, stored.facts["sources"], strict=True)
    usages = tuple(from_summary(source | {"path": path}) for path, source in paths)
    return stored, Usage(selection.role, usages, len(_array(stored, "contents")))


def _parts(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Entries in parts of bounded size."""
    part: list[Entry] = []
    characters = 0
    for entry in entries:
        part.append(entry)
        characters += len(entry.record) if isinstance(entry.record, str) else sum(map(len, texts_of(entry.record)))
        if len(part) == PART_RECORDS or characters >= PART_CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _array(stored: Cached, name: str) -> np.ndarray:
    return stored.array(name, DTYPES[name])


def _ids(stored: Cached) -> Ragged:
    return Ragged(_array(stored, "ids"), _array(stored, "lengths"))


def _add_row(columns: Columns, ids: Sequence[int]) -> None:
    columns["ids"] += ids
    columns["lengths"].append(len(ids))


class _Anonymous:
    """A record's prompt without its user."""

    user = None

    def __init__(self, messages: Sequence[Mapping[str, str]]) -> None:
        self.messages = messages


def _add_facts(columns: Columns, entry: Entry, content: int) -> None:
    """What every item has: its source, its content, and the places of its user and its prompt in a split."""
    record = entry.record
    columns["sources"].append(entry.source)
    columns["contents"].append(content)
    if not isinstance(record, str):
        columns["user_fractions"].append(np.nan if record.user is None else hash_fraction(record))
        columns["prompt_fractions"].append(hash_fraction(_Anonymous(record.messages)))


def _add_ranking(
    columns: Columns,
    entry: Entry,
    rows: Sequence[Rendered | Refusal | None],
    usage: SourceUsage,
    groups: dict[str, int],
) -> None:
    """A comparison's usable responses and the decided pairs among them; counted as left out where none is left.

    Args:
        rows: of each response, None where it was cut off.
        groups: numbers of the groups of labelers, which grow here.
    """
    record: Comparison = entry.record
    usable = [i for i, row in enumerate(rows) if isinstance(row, Rendered)]
    place = {response: number for number, response in enumerate(usable)}
    among = [(place[i], place[j], outcome) for i, j, outcome in pairs_of(record) if i in place and j in place]
    decided = [pair for pair in among if pair[2] != 0]
    faults = [sentence(row) if isinstance(row, Refusal) else CUT_OFF for row in rows if not isinstance(row, Rendered)]
    if not decided:
        usage.skipped[faults[0] if faults else "no decided pair"] += 1
        return
    usage.noted.update(f"response left out: {fault}" for fault in faults)
    if len(among) > len(decided):
        usage.noted["tied pair left out"] += len(among) - len(decided)
    usable_ids = [row.ids for row in rows if isinstance(row, Rendered)]
    for ids in usable_ids:
        _add_row(columns, ids)
    columns["response_counts"].append(len(usable_ids))
    columns["pairs"] += [number for pair in decided for number in pair]
    columns["pair_counts"].append(3 * len(decided))
    group = record.labeler_group or "all"
    columns["groups"].append(groups.setdefault(group, len(groups)))
    # A sum, so that the order of the responses does not matter.
    _add_facts(columns, entry, sum(map(row_hash, usable_ids)) % 2**64)


def row_hash(ids: Sequence[int]) -> int:
    """A hash of 64 bits of a row of token ids."""
    return int.from_bytes(hashlib.blake2b(np.asarray(ids, np.int32).tobytes(), digest_size=8).digest(), "little")


def _shape(renderer: Renderer) -> dict[str, Any]:
    """What of the renderer shapes ids."""
    return {
        "tokenizer": tokenizer_hash(renderer.tokenizer),
        "merges_system": renderer.merges_system,
        "stop_ids": list(renderer.stop_ids),
        "prompt": renderer.template.prompt,  # some templates write the date
        "size": renderer.size,
    }


@cache
def _code_hash() -> str:
    """Of the code that turns rows into token ids: rows rendered by an earlier version are rendered anew."""
    root = Path(__file__).parents[1]
    files = [file for folder in CODE for file in sorted((root / folder).rglob("*.py"))]
    return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()


def _rows(stored: Cached, items: Any, usage: Usage) -> Rows[Any]:
    return Rows(
        items=items,
        users=_array(stored, "user_fractions"),
        prompts=_array(stored, "prompt_fractions"),
        contents=_array(stored, "contents"),
        sources=_array(stored, "sources"),
        usage=usage,
    )
