"""Data files that are damaged inside known rows, and what a reader may make of them.

A file is a list of chunks, one per row, with what stands around them, so that damage stays inside the rows that it is
meant for. All other rows must come back as they were written, in their order.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Row = Mapping[str, Any]
COLUMNS = ("id", "prompt", "response")
KINDS = ("jsonl", "json", "csv", "tsv", "txt", "parquet")
PIECES = (
    "a", "word", " ", " ", ",", ", ", ";", '"', '""', "'", "\\", "\\n", "\\u0041", "{", "}", "[1]", "],", "é", "日本語",
    "\u2028", "\x0b", "\x0c", "\x85", "\ufeff", "😀", "\t", "\n", "\n\n", "\r\n", "\r", "null", "NaN", "=", "#",
)  # fmt: skip
BAD_BYTES = (
    b"\xff", b"\xc3", b"\xed\xa0\xbd", b"\0", b"\0\0\0\0", b"\xef\xbb\xbf", b'"', b'""', b",", b"\t", b"\r", b"\n",
    b"\\", b"{", b"}", b"]", b"[", b"\xe2\x80\xa8",
)  # fmt: skip
BAD_VALUES = (
    b"12", b"null", b'"text"', b"[1, 2]", b"{}", b'{"id": NaN}', b'{"id": -Infinity}', b'{"id": 1e999}',
    b'{"id": "x", "id": "y"}', b'{"prompt": "half \\ud83d"}', b'{"prompt": "\\udE00\\ud83d"}', b'{"prompt": "\\u0000"}',
    b'{"id": ' + b"9" * 5000 + b"}", b'{"id": ' + b"[" * 3000 + b"]" * 3000 + b"}",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        name: tells its format.
        content: its bytes.
        intact: the rows without damage, in their order.
        damaged: number of rows with damage; 1 where the file itself is damaged.
        is_framed: whether the rows can still be told apart, so that the file must not be refused.
        most_extra: records at most that may come out of the damaged rows.
    """

    name: str
    content: bytes
    intact: Sequence[Row]
    damaged: int = 0
    is_framed: bool = True
    most_extra: int = 0


def case(rng: random.Random, size: int) -> Case:
    """A file of `size` rows, at least 3, in a random format and with random damage."""
    kind = rng.choice(KINDS)
    bad = sorted(rng.sample(range(size), min(size // 3, rng.choice((0, 1, 1, 1, 2, 3)))))
    rows = [_row(rng, kind, number, may_be_edged=not bad) for number in range(size)]
    if kind == "parquet":
        return _parquet_case(rng, rows, bad)
    result = _text_case(rng, kind, rows, bad)
    return _compressed(rng, result) if rng.random() < 0.25 else result


def problem(file: Case, outcome: Sequence[Row | Exception] | None) -> str | None:
    """What a reader did wrong, or None.

    Args:
        outcome: what it gave for each row, refused ones as exceptions; None where it refused the file in one sentence.
    """
    if outcome is None:
        return "a file was refused although its rows can be told apart" if file.is_framed else None
    records = [row for row in outcome if not isinstance(row, Exception)]
    position = 0
    for record in records:
        if position < len(file.intact) and dict(record) == file.intact[position]:
            position += 1
    if position < len(file.intact):
        return f"intact row {position} is lost or changed: {file.intact[position]}"
    if len(records) - position > file.most_extra:
        return f"{len(records) - position} records come out of {file.damaged} damaged rows"
    if not all(_is_writable(record) for record in records):
        return "a record holds half of a character, a null character, or a number that is none"
    if not file.damaged and len(outcome) > len(records):
        return "a row was refused although the file is not damaged"
    return None


def _is_writable(record: Row) -> bool:
    try:
        text = json.dumps(dict(record), ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        return False
    return "\\u0000" not in text.replace("\\\\", "")


def _row(rng: random.Random, kind: str, number: int, may_be_edged: bool) -> Row:
    """A row of any text.

    Args:
        may_be_edged: whether fields of CSV may begin or end with a separator or a line end. The mark beside it is then
            both an opening and a closing one, and where another mark is lost nobody can tell which.
    """

    def text() -> str:
        value = "".join(rng.choice(PIECES) for _ in range(rng.randrange(12)))
        return value if may_be_edged or kind != "csv" else value.strip(",\r\n")

    if kind in ("tsv", "txt"):  # which have no way to write these
        words = [text().replace("\n", " ").replace("\t", " ").rstrip("\r") for _ in range(2)]
    else:
        words = [text(), text()]
    if kind == "txt":
        return {"line": f"{number} {words[0]}"}
    return dict(zip(COLUMNS, (f"r{number}", *words), strict=True))


def _text_case(rng: random.Random, kind: str, rows: Sequence[Row], bad: Sequence[int]) -> Case:
    head, chunks, between, tail, name = _encoded(rng, kind, rows)
    is_list = name == "rows.json" and kind == "json"
    is_framed, lines = True, 0
    for number in bad:
        if kind in ("json", "jsonl") and rng.random() < 0.4:
            chunks[number] = rng.choice(BAD_VALUES)
        else:
            chunks[number] = _with_bad_bytes(rng, chunks[number])
            is_framed = is_framed and not is_list
        lines += chunks[number].count(b"\n") + chunks[number].count(b"\r")
    intact = [row for number, row in enumerate(rows) if number not in bad]
    content = head + between.join(chunks) + tail
    return Case(name, content, intact, len(bad), is_framed, len(bad) + lines)


def _encoded(rng: random.Random, kind: str, rows: Sequence[Row]) -> tuple[bytes, list[bytes], bytes, bytes, str]:
    """What stands before the rows, the rows, what stands between and behind them, and the file's name."""
    end = rng.choice((b"\n", b"\n", b"\r\n"))
    tail = rng.choice((b"", end))
    bom = rng.choice((b"", b"", b"\xef\xbb\xbf"))
    if kind in ("json", "jsonl"):
        ascii_only = rng.random() < 0.5
        chunks = [json.dumps(row, ensure_ascii=ascii_only).encode() for row in rows]
        if kind == "jsonl":
            return bom, chunks, end, tail, rng.choice(("rows.jsonl", "rows.jsonl", "rows.json"))
        head, tail = rng.choice(((b"[", b"]"), (b"[\n", b"\n]\n"), (b'{"version": 1, "data": [', b"]}")))
        return bom + head, chunks, rng.choice((b",", b",\n", b", ")), tail, "rows.json"
    if kind == "txt":
        return bom, [row["line"].encode() for row in rows], end, tail, "rows.txt"
    if kind == "tsv":
        lines = ["\t".join(row.values()).encode() for row in rows]
        return bom + "\t".join(COLUMNS).encode() + end, lines, end, tail, "rows.tsv"
    quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    header, *chunks = (_csv_record(values, quoting) for values in (COLUMNS, *(row.values() for row in rows)))
    return bom + header + end, chunks, end, tail, "rows.csv"


def _csv_record(values: Any, quoting: Any) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=quoting).writerow(values)
    return buffer.getvalue().removesuffix("\r\n").encode()


def _with_bad_bytes(rng: random.Random, chunk: bytes) -> bytes:
    """A piece replaced, cut out or put in."""
    at = rng.randrange(len(chunk) + 1)
    end = rng.choice((at, at + 1, at + rng.randrange(8), len(chunk)))
    piece = rng.choice((b"", rng.choice(BAD_BYTES), rng.choice(BAD_BYTES), rng.randbytes(3)))
    return chunk[:at] + piece + chunk[end:]


def _compressed(rng: random.Random, file: Case) -> Case:
    """The file as gzip: of one member or of several, sometimes damaged itself."""
    cut = rng.randrange(len(file.content) + 1) if rng.random() < 0.5 else 0
    members = [gzip.compress(part, 1) for part in (file.content[:cut], file.content[cut:]) if part]
    whole = replace(file, name=file.name + ".gz", content=b"".join(members))
    if file.damaged or rng.random() < 0.5:
        return whole
    content = bytearray(whole.content)
    if rng.random() < 0.5:
        del content[rng.randrange(20, len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return replace(whole, content=bytes(content), damaged=1, is_framed=False)


def _parquet_case(rng: random.Random, rows: Sequence[Row], bad: Sequence[int]) -> Case:
    """Cells that hold no text, or a file that is cut or has a flipped bit: its pages carry checksums."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = {name: [row[name].encode() for row in rows] for name in COLUMNS}
    for number in bad:
        cells["prompt"][number] = rng.choice((None, b"\xff\xfe", b"a\0b", b"\xed\xa0\xbd"))
    arrays = [pa.array(cells[name], pa.binary()).view(pa.string()) for name in COLUMNS]
    buffer = io.BytesIO()
    table = pa.Table.from_arrays(arrays, COLUMNS)
    pq.write_table(table, buffer, write_page_checksum=True, row_group_size=rng.choice((2, 100)), use_dictionary=False)
    intact = [row for number, row in enumerate(rows) if number not in bad]
    whole = Case("rows.parquet", buffer.getvalue(), intact, len(bad), True, len(bad))
    if bad or rng.random() < 0.5:
        return whole
    content = bytearray(whole.content)
    if rng.random() < 0.5:
        del content[rng.randrange(len(content)) :]
    else:
        pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")  # the table behind them has no checksum
        content[rng.randrange(pages)] ^= 1 << rng.randrange(8)
    return replace(whole, content=bytes(content), damaged=1, is_framed=False)
