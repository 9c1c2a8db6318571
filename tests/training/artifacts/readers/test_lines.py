"""Files as bytes: gzip of one or several members, and damage as one sentence that names file and fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.zipped import zipped
from training.artifacts.errors import UserError
from training.artifacts.rows import open_source

pytestmark = pytest.mark.unit

LINES = b"".join(b'{"a": %d}\n' % i for i in range(500))
WHOLE = zipped(LINES)
FLIPPED = WHOLE[:60] + bytes([WHOLE[60] ^ 255]) + WHOLE[61:]


def read(path: Path, content: bytes) -> list[Any]:
    path.write_bytes(content)
    return [row.get("a") for row in open_source(str(path)).rows()]


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.jsonl", LINES),
        ("a.jsonl.gz", WHOLE),
        ("a.JSONL.GZ", WHOLE),
        ("a.jsonl.gz", zipped(LINES[:100]) + zipped(LINES[100:])),
        ("a.jsonl.gz", WHOLE + b"\0" * 100),
        ("a.jsonl", WHOLE),  # the name lacks .gz, the bytes leave no doubt
    ],
)
def test_a_compressed_file_is_read_like_any(tmp_path: Path, name: str, content: bytes) -> None:
    assert read(tmp_path / name, content) == list(range(500))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl.gz", WHOLE[:-12], r"a\.jsonl\.gz is damaged or cannot be read \(.+\): restore or write it again"),
        ("a.jsonl.gz", WHOLE[:40], "is damaged or cannot be read"),
        ("a.jsonl.gz", FLIPPED, "is damaged or cannot be read"),
        ("a.jsonl.gz", WHOLE + b"trailing", "is damaged or cannot be read"),
        ("a.json.gz", WHOLE[:-12], "is damaged or cannot be read"),
        ("a.txt.gz", WHOLE[:-12], "is damaged or cannot be read"),
        ("a.csv.gz", zipped(b"a,b\n" + b"1,2\n" * 500)[:-12], "is damaged or cannot be read"),
        ("a.jsonl.gz", LINES, "is not gzip data: compress it again, or name it without .gz"),
        ("a.jsonl", "\ufeff[]".encode("utf-16"), "is UTF-16 text: convert it"),
        ("a.jsonl", "\ufeff[]".encode("utf-32-le"), "is UTF-32 text: convert it"),
        ("a.jsonl", b"PK\x03\x04\n{}\n{}\n", "is a zip archive or a spreadsheet: unpack it"),
        ("a.jsonl", b"(\xb5/\xfd\0\n{}\n", "is compressed with zstd: unpack it"),
        ("a.csv", b"BZh9\na,b\n", "is compressed with bzip2: unpack it"),
        ("a.txt", b"\xfd7zXZ\0\na\n", "is compressed with xz: unpack it"),
        ("a.json", b"PAR1{}PAR1", "is a Parquet file: name it .parquet"),
        ("a.jsonl.gz", zipped(WHOLE), "unpacked, is compressed with gzip once more: unpack it once"),
        ("a.csv.gz", zipped(b"PK\x03\x04"), "unpacked, is a zip archive or a spreadsheet: unpack it"),
        ("a.txt.gz", zipped("\ufeffa".encode("utf-16")), "unpacked, is UTF-16 text: convert it"),
    ],
)
def test_damage_is_one_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as failure:
        read(tmp_path / name, content)
    assert "\n" not in str(failure.value)
