"""Weight files as they lie in a folder: names, shapes and dtypes from safetensors headers, and copying them."""

from __future__ import annotations

import fcntl
import json
import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.artifacts.errors import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CHUNK = 16 * 2**20  # bytes
CLONE = 0x40049409  # FICLONE: share blocks until either file is written to, where the file system can
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
TRAINED = (torch.float32, torch.bfloat16, torch.float16)  # dtypes that a model is saved in


@dataclass(frozen=True)
class Entry:
    """One tensor of a safetensors file: bytes `start` to `end` of `file`."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def read(self, first: int = 0, last: int | None = None) -> Tensor:
        """Rows `first` to `last` along the first dimension (all if left out), in the file's dtype, in memory of its
        own."""
        rows = self.shape[0] if self.shape else 1
        last = rows if last is None else min(last, rows)
        row_bytes = (self.end - self.start) // max(1, rows)
        buffer = bytearray((last - first) * row_bytes)
        with self.file.open("rb") as stream:
            stream.seek(self.start + first * row_bytes)
            if stream.readinto(buffer) != len(buffer):
                raise UserError(f"{self.file} is cut: restore it")
        shape = (last - first, *self.shape[1:]) if self.shape else ()
        return torch.frombuffer(buffer, dtype=self.dtype).reshape(shape) if buffer else torch.empty(shape)


def files_of(folder: Path) -> list[Path]:
    """The safetensors files that transformers reads from a folder; empty without any.

    Raises:
        UserError: the index is damaged or names a file that is not there.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        return []
    try:
        names = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{folder / INDEX} is damaged: fetch it again, or save the model anew") from None
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"{folder} lacks {name}, which its index names: fetch that file as well")
    return [folder / name for name in names]


def headers(folder: Path) -> dict[str, Entry]:
    """Every tensor of a folder by its name, from headers alone. Raises `UserError` for a damaged file."""
    return {name: entry for file in files_of(folder) for name, entry in header(file)}


def header(file: Path) -> Iterator[tuple[str, Entry]]:
    """Names and places of the tensors of a safetensors file."""
    damaged = UserError(f"{file} is not a whole safetensors file: fetch it again, or save the model anew")
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size - 8:
                raise damaged
            about = json.loads(stream.read(length))
        about.pop("__metadata__", None)
        entries = {name: _entry(file, 8 + length, facts) for name, facts in about.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None
    if any(entry.end > size for entry in entries.values()):
        raise damaged
    yield from entries.items()


def _entry(file: Path, offset: int, facts: Mapping[str, Any]) -> Entry:
    start, end = facts["data_offsets"]
    # Formats narrower than a byte exist; their tensors are counted as bytes and never computed with here.
    return Entry(file, DTYPES.get(facts["dtype"], torch.uint8), tuple(facts["shape"]), offset + start, offset + end)


def stored_dtype(folder: Path, config: Any) -> torch.dtype:
    """The dtype that most weights of a folder have, or what the configuration says where there are no headers to read
    (a hub id, pickled weights); float32 where neither is one that models are trained in."""
    sizes: Counter[torch.dtype] = Counter()
    if folder.is_dir():
        for entry in headers(folder).values():
            sizes[entry.dtype] += entry.size
    dtype = max(sizes, key=lambda one: sizes[one]) if sizes else getattr(config, "dtype", None)
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype.removeprefix("torch."), None)
    return dtype if dtype in TRAINED else torch.float32


def replace_tensors(file: Path, tensors: Mapping[str, Tensor | None]) -> None:
    """Write a safetensors file anew with other tensors under some of its names, None for one that is left out, without
    holding it in memory."""
    about: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    entries, position = dict(header(file)), 0
    names = {dtype: name for name, dtype in DTYPES.items()}
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        old = json.loads(stream.read(length))
    entries = {name: entry for name, entry in entries.items() if tensors.get(name, entry) is not None}
    for name, entry in entries.items():
        new = tensors.get(name)
        size = entry.end - entry.start if new is None else new.numel() * new.element_size()
        dtype = old[name]["dtype"] if new is None else names[new.dtype]
        shape = list(entry.shape) if new is None else list(new.shape)
        about[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    written = file.with_name(f".{file.name}.new")
    with written.open("wb") as target, file.open("rb") as stream:
        target.write(struct.pack("<Q", len(text)) + text)
        for name, entry in entries.items():
            if (tensor := tensors.get(name)) is not None:
                target.write(tensor.contiguous().view(torch.uint8).numpy().tobytes())
                continue
            stream.seek(entry.start)
            for left in range(entry.end - entry.start, 0, -CHUNK):
                target.write(stream.read(min(CHUNK, left)))
    written.replace(file)


def copy(source: Path, target: Path, progress: Callable[[int], None] = lambda count: None) -> None:
    """Copy a file, sharing blocks where the file system can (a later write to either leaves the other as it is).
    `progress` is called with the number of bytes copied so far."""
    with source.open("rb") as stream, target.open("wb") as copied:
        try:
            fcntl.ioctl(copied.fileno(), CLONE, stream.fileno())
        except OSError:
            done = 0
            while count := os.sendfile(copied.fileno(), stream.fileno(), done, CHUNK):
                done += count
                progress(done)
        else:
            progress(source.stat().st_size)
