"""Small file operations that never leave half a file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

LONGEST_NAME = 120  # bytes of a name that others are put behind: systems take 255 in all


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write to a temporary file beside `path`, flush it to the disk, then rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def exists(path: Path) -> bool:
    """Whether there is a file or folder of that name; False too where the system takes no such name, or does not let
    us look."""
    try:
        return path.exists()
    except OSError:
        return False


def file_name(name: str) -> str:
    """A name as part of a file's: without slashes, and a long one cut, with a hash that keeps it apart."""
    plain = name.replace("/", "_")
    if len(plain.encode()) <= LONGEST_NAME:
        return plain
    return f"{plain.encode()[:LONGEST_NAME].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def split_lines(text: str) -> list[str]:
    """Lines that are not blank. Not `splitlines()`: JSON leaves other line ends, such as U+2028, inside its strings."""
    return [line for line in text.split("\n") if line.strip()]


def lines_of(path: Path) -> list[str]:
    """`split_lines` of a file; bytes that are not UTF-8 are replaced."""
    return split_lines(path.read_text(encoding="utf-8", errors="replace"))


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
