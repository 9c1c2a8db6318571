"""Lines of a file, also of a gzip file. Only LF ends a line: texts hold other line ends, such as U+2028.

A file without any LF, but with CR, is one of old programs that end lines with CR alone.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from training.artifacts.errors import UserError
from training.artifacts.skips import Skip

LONGEST = 64 * 2**20  # bytes of a line: what is longer is not a row, and must not fill the memory
PART = 2**20  # bytes that are searched at once
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
COLUMNAR = (".parquet", ".arrow")
# How files that are not text begin, whatever their names say: what they are, and how they become readable.
OTHER_FORMATS = {
    GZIP: "compressed with gzip once more: unpack it once",
    b"\xff\xfe\0\0": "UTF-32 text: convert it, for example with iconv -f utf-32 -t utf-8",
    b"\xff\xfe": "UTF-16 text: convert it, for example with iconv -f utf-16 -t utf-8",
    b"\xfe\xff": "UTF-16 text: convert it, for example with iconv -f utf-16 -t utf-8",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or export its rows",
    b"(\xb5/\xfd": "compressed with zstd: unpack it, or compress it with gzip",
    b"BZh": "compressed with bzip2: unpack it, or compress it with gzip",
    b"\xfd7zXZ\0": "compressed with xz: unpack it, or compress it with gzip",
    b"PAR1": "a Parquet file: name it .parquet",
    b"ARROW1": "an Arrow file: name it .arrow",
}


def kind_of(path: Path) -> str:
    """The suffix that names the format: `.jsonl` for `a.jsonl` and `a.jsonl.gz`."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed where it is gzip; what fails while they are read ends in a `UserError`."""
    try:
        with path.open("rb") as raw:
            head = raw.read(6)
            raw.seek(0)
            if head.startswith(GZIP):
                with gzip.GzipFile(fileobj=raw) as file:  # also of several members, one after another
                    other = _other_format(file.peek(6)[:6])
                    if other is not None and kind_of(path) not in COLUMNAR:
                        raise UserError(f"{path}, unpacked, is {other}")
                    yield file  # type: ignore[misc]  # typeshed's GzipFile is not an IO[bytes]
            elif path.suffix.lower() == ".gz" and head:
                raise UserError(f"{path} is not gzip data: compress it again, or name it without .gz")
            elif (other := _other_format(head)) is not None and kind_of(path) not in COLUMNAR:
                raise UserError(f"{path} is {other}")
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or cannot be read ({error}): restore or write it again") from None


def _other_format(head: bytes) -> str | None:
    """What a file is that begins like this, and how it becomes readable; None where it may be text."""
    return next((what for start, what in OTHER_FORMATS.items() if head.startswith(start)), None)


def holds(path: Path, text: bytes) -> bool:
    """Whether the bytes of a file, decompressed where it is gzip, hold these."""
    before = b""
    with opened(path) as file:
        while part := file.read(PART):
            if text in before + part:
                return True
            before = (before + part)[1 - len(text) :]
    return False


def lines_of(path: Path) -> Iterator[bytes | Skip]:
    """Lines without their LF or CRLF and without a byte order mark; blank ones too."""
    for line in raw_lines(path):
        yield line if isinstance(line, Skip) else line.removesuffix(b"\r").removeprefix(BOM)


def raw_lines(path: Path) -> Iterator[bytes | Skip]:
    """Lines without their LF."""
    with opened(path) as file:
        first = file.readline(LONGEST)
        if not first.endswith(b"\n") and len(first) < LONGEST and b"\r" in first:
            yield from first.removesuffix(b"\r").split(b"\r")
            return
        file.seek(0)
        while line := file.readline(LONGEST):
            if len(line) == LONGEST and not line.endswith(b"\n"):
                while (rest := file.readline(LONGEST)) and not rest.endswith(b"\n"):
                    pass
                yield Skip("too_long")
                continue
            yield line.removesuffix(b"\n")


def text_of(line: bytes) -> str:
    """A line as text. Raises `Skip` where it is not UTF-8 or holds a null character."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise Skip("not_utf8") from None
    if "\0" in text:
        raise Skip("null_character")
    return text
