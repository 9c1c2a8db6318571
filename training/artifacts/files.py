"""Small file operations that never leave half a file."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from training.artifacts.errors import UserError

LONGEST_NAME = 120  # bytes of a name that others are put behind: systems take 255 in all


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that exists is left alone.

    Raises:
        OSError: the system's reason, of those that `run_command` turns into one line. A file system that takes no
            folders, such as /proc, says "no such file" of a name to be made: that is `NotADirectoryError` here.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        raise NotADirectoryError(errno.ENOTDIR, "No folder can be made there", str(folder)) from None


def check_writable(folder: Path) -> None:
    """Whether files can be written in a folder, tried before long work; a folder made for it is removed again.

    Raises:
        UserError: they cannot, with the system's reason.
    """
    missing = [path for path in (folder, *folder.parents) if not exists(path)]
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}: make room, or name another place") from None
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole: `replacing` with its content. Raises as it does."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def to_disk(file: IO[Any]) -> None:
    """Make what was written to a file outlive a power cut."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file beside `path`, to be written in the block; then flushed to the disk and renamed over `path`.

    When the block raises, `path` stays as it was and the temporary file is removed.

    Raises:
        OSError: the system's reason, of those that `run_command` turns into one line; see `make_folder`.
    """
    make_folder(path.parent)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except FileNotFoundError:  # the folder is there: its file system takes no files, such as /proc
        raise NotADirectoryError(errno.ENOTDIR, "No file can be made there", str(path.parent)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            to_disk(file)
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


def write_hash(path: Path, sha256: str) -> None:
    """Write a file's hash beside it, to PATH.sha256, as the command `sha256sum` does."""
    write_atomically(hash_file(path), f"{sha256}  {path.name}\n")


def check_hash(path: Path, sha256: str | None = None) -> None:
    """Raise `UserError` for a file with other bytes than those whose hash is beside it; one without a hash passes.

    Args:
        sha256: of the file, where it is known already.
    """
    beside = hash_file(path)
    if beside.is_file() and (beside.read_text(errors="replace").split() or [""])[0] != (sha256 or sha256_file(path)):
        raise UserError(f"{path} was changed after it was frozen: restore it, or delete {beside} to use it as it is")


def hash_file(path: Path) -> Path:
    """Where a file's hash is kept."""
    return path.with_name(f"{path.name}.sha256")
