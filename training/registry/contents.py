"""What a checkpoint in an object store consists of: `files.json` beside its files, with the size and hash of each.

The order of a push is files, `files.json`, `manifest.json`: where the last one is not, there is no checkpoint."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from training.artifacts.checkpoints import MANIFEST, Checkpoint
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file
from training.artifacts.text import STEERING

FORMAT = 1
CONTENTS = "files.json"
LARGEST = 2**26  # bytes of files.json and manifest.json that are read
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
PICKLED = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


class File(NamedTuple):
    """A file of a checkpoint: its sha256, as hex, and its bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Contents:
    """All files of a checkpoint by their names in its folder, the manifest among them."""

    id: str
    files: dict[str, File]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files.values())

    def to_json(self) -> bytes:
        """The content of files.json."""
        files = {name: {"sha256": file.sha256, "bytes": file.size} for name, file in sorted(self.files.items())}
        return (json.dumps({"format": FORMAT, "id": self.id, "files": files}, indent=2) + "\n").encode()


def check_id(id: str) -> str:
    """An id that is safe as the name of a folder. Raises `UserError` for any other."""
    if not ID.fullmatch(id):
        raise UserError(f"{id!r} is not the id of a checkpoint: give one such as sft-20260131-101502-9f3a")
    return id


def contents_of(checkpoint: Checkpoint) -> Contents:
    """The files of a checkpoint of a home, read and hashed.

    Raises:
        UserError: weights are not those of the manifest, or the folder holds what is never published.
    """
    folder, manifest = checkpoint.path, checkpoint.manifest
    if check_id(manifest.id) != folder.resolve().name:
        raise UserError(f"{folder} holds the checkpoint {manifest.id}: name the folder so")
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link: put the file itself there")
        if path.is_file():
            files[name] = File(sha256_file(path), path.stat().st_size)
    check(contents := Contents(manifest.id, files), manifest.weights, str(folder))
    return contents


def check(contents: Contents, weights: object, where: str) -> None:
    """Raise `UserError` unless the files may be a checkpoint's, and the weights are those of its manifest."""
    damaged = f"{where} is damaged"
    names = set(contents.files)
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        odd = not parts or name != "/".join(parts) or ".." in parts or name.startswith("/") or "\\" in name
        odd = odd or bool(re.search("[\ud800-\udfff]", name))  # half a character, of which no file can have the name
        if odd or re.search(STEERING, name) or name == CONTENTS or any(len(part.encode()) > 255 for part in parts):
            raise UserError(f"{damaged}: {name!r} is not a name of a checkpoint's file")
        if PurePosixPath(name).suffix.lower() in PICKLED:
            raise UserError(f"{where} holds pickled weights ({name}): only safetensors are taken")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))} & names
        if above:
            raise UserError(f"{damaged}: {above.pop()!r} is a file and a folder")
    if MANIFEST not in names or not isinstance(weights, dict):
        raise UserError(f"{damaged}: it names no {MANIFEST}")
    for name, sha256 in weights.items():
        if name not in names:
            raise UserError(f"{damaged}: it has no {name!r}, which its manifest names")
        if contents.files[name].sha256 != sha256:
            raise UserError(f"{damaged}: {name} is not the file of its manifest, its sha256 differs")


def parse(content: bytes, id: str, where: str) -> Contents:
    """Read files.json. Raises `UserError` for anything else."""
    try:
        fields = json.loads(content)
        if fields["format"] != FORMAT:
            raise UserError(f"{where} has format {fields['format']!r}, this version reads {FORMAT}: update AlignLoop")
        files = {}
        for name, facts in fields["files"].items():
            file = File(facts["sha256"], facts["bytes"])
            if not re.fullmatch("[0-9a-f]{64}", file.sha256) or type(file.size) is not int or file.size < 0:
                raise ValueError(f"no hash and size of {name!r}")
            files[name] = file
        if fields["id"] != id:
            raise ValueError(f"it is of {fields['id']!r}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{where} is damaged ({error}): push the checkpoint again with --replace") from None
    return Contents(id, files)


def local(folder: Path, name: str) -> Path:
    """Where a file of a checkpoint lies in a folder; the name was checked."""
    return folder.joinpath(*PurePosixPath(name).parts)
