"""`python -m training pull`: checkpoints of an object store into a home, with every hash compared, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from training.artifacts import checkpoints, progress
from training.artifacts.checkpoints import MANIFEST, Checkpoint
from training.artifacts.errors import UserError
from training.artifacts.files import make_folder, sha256_file, to_disk
from training.registry.contents import CONTENTS, LARGEST, Contents, check, check_id, local
from training.registry.contents import parse as parse_contents
from training.registry.places import BLOCK, Place
from training.runtime import locks
from training.runtime.configuration import parse

PREFIX = ".pulling-"  # of the folder in the store that a checkpoint arrives in
SPARE = 2**20  # bytes that stay free on the disk


@dataclass(frozen=True)
class Config:
    """Copy checkpoints from a place that they were pushed to. Every file is compared with its hash before the
    checkpoint is there; a stopped pull resumes. Without names it lists the checkpoints of the place."""

    url: tyro.conf.Positional[str]
    """The place: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER."""
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids of checkpoints."""
    parents: bool = False
    """Also copy all that they were made from."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


def pull(config: Config) -> list[Checkpoint]:
    """Copy checkpoints into the home; those that it has now, in the order in which they were named.

    Raises:
        UserError: the place has no such checkpoint, it is damaged, or it cannot be reached.
    """
    place, store = Place(config.url), config.home / "checkpoints"
    make_folder(store)
    waiting, named = list(dict.fromkeys(check_id(name) for name in config.names)), set(config.names)
    done: dict[str, Checkpoint] = {}
    left: dict[str, str] = {}
    while waiting:
        id = waiting.pop(0)
        if id not in named and place.read(f"{check_id(id)}/{MANIFEST}") is None and not (store / id).exists():
            left[id] = "not in the place"
            continue
        done[id] = _pull(id, place, store)
        for parent in done[id].manifest.parents:
            if parent in done or parent in waiting or parent in left:
                continue
            if config.parents:
                waiting.append(parent)
            elif not (store / parent).exists():
                left[parent] = "a parent, --parents takes it"
    left = {id: why for id, why in left.items() if id not in done}
    if left:
        progress.say("left out: " + "; ".join(f"{id} ({why})" for id, why in left.items()))
    return list(done.values())


def show(place: Place) -> list[str]:
    """Print the checkpoints of a place; ids, sorted."""
    ids = []
    for id in place.folders():
        try:
            contents, _ = _described(check_id(id), place)
        except UserError as error:
            progress.say(f"left out: {error}")
            continue
        ids.append(id)
        print(f"{id}  {len(contents.files)} files  {contents.size / 1e6:,.1f} MB")
    if not ids:
        progress.say(f"{place.url} has no checkpoints")
    return ids


def _pull(id: str, place: Place, store: Path) -> Checkpoint:
    final = store / id
    if final.exists() or final.is_symlink():
        own = checkpoints.load(final)
        remote = place.read(f"{id}/{MANIFEST}")
        if remote is not None and remote != (final / MANIFEST).read_bytes():
            raise UserError(f"{final} is another checkpoint than {place.url}/{id}: use another --home")
        progress.say(f"{id}: is there already")
        return own
    contents, manifest = _described(id, place)
    arriving = store / f"{PREFIX}{id}"
    lock = locks.try_lock(arriving)
    if lock is None:
        raise UserError(f"another process pulls {id} into {store}: wait for it")
    with lock:
        folder = arriving / "files"
        make_folder(folder)
        _fetch(contents, manifest, place, folder)
        try:
            folder.rename(final)
        except OSError:
            if not (final / MANIFEST).is_file():
                raise
            # Another process, of another machine, was faster: what it brought has the same hashes.
        _flush(store)
        shutil.rmtree(arriving, ignore_errors=True)
    progress.say(f"{id}: {len(contents.files)} files, {contents.size / 1e6:,.1f} MB, every hash compared")
    return checkpoints.load(final)


def _described(id: str, place: Place) -> tuple[Contents, bytes]:
    """What a checkpoint of the place consists of, and its manifest. Asks for both by name: listings may lag."""
    where = f"{place.url}/{id}"
    size = place.size(f"{id}/{MANIFEST}")
    if size is None and place.read(f"{id}/{MANIFEST}") is None:  # the second says whether there is a bucket
        raise UserError(f"{where} is not a checkpoint, or its push is not finished: it has no {MANIFEST}")
    listed = place.read(f"{id}/{CONTENTS}") if (size or 0) <= LARGEST else None
    if listed is None or len(listed) > LARGEST:
        raise UserError(f"{where} has no {CONTENTS}: put it there with `python -m training push`")
    contents = parse_contents(listed, id, f"{where}/{CONTENTS}")
    manifest = place.read(f"{id}/{MANIFEST}") or b""
    file = contents.files.get(MANIFEST)
    if file is None or hashlib.sha256(manifest).hexdigest() != file.sha256:
        raise UserError(f"{where} is damaged: its {MANIFEST} is not the one that was pushed; push it with --replace")
    fields = _fields(manifest, where)
    if fields.get("id") != id:
        raise UserError(f"{where} is damaged: its {MANIFEST} is of {fields.get('id')!r}; push it with --replace")
    check(contents, fields.get("weights"), where)
    return contents, manifest


def _fields(manifest: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(manifest)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise UserError(f"{where}/{MANIFEST} is not a manifest: push the checkpoint with --replace")
    return fields


def _fetch(contents: Contents, manifest: bytes, place: Place, folder: Path) -> None:
    """Bring all files into a folder. Those of an earlier pull stay where their hash is right; the manifest is last."""
    with progress.bar(f"pulling {contents.id}", contents.size) as bar:
        _remove_others(contents, folder)
        absent = []
        for name, file in contents.files.items():
            path = local(folder, name)
            if name != MANIFEST and path.is_file() and path.stat().st_size == file.size:
                bar.note(f"comparing {name}")
                if sha256_file(path) == file.sha256:
                    bar.advance(file.size)
                    continue
            if name != MANIFEST:
                absent.append(name)
        _check_room(sum(contents.files[name].size for name in absent), folder)
        for name in absent:
            bar.note(name)
            _fetch_file(contents, name, place, folder, bar.advance)
        if checkpoints.tokenizer_hash(folder) != _fields(manifest, contents.id).get("tokenizer_hash"):
            raise UserError(f"{place.url}/{contents.id} is damaged: its tokenizer is not the one of its manifest")
        with (folder / MANIFEST).open("wb") as writing:
            writing.write(manifest)
            to_disk(writing)
        for inner in sorted(path for path in folder.rglob("*") if path.is_dir()):
            _flush(inner)
        _flush(folder)
        checkpoints.load(folder)  # one that this version cannot read does not arrive
        bar.advance(len(manifest))


def _remove_others(contents: Contents, folder: Path) -> None:
    """What another checkpoint of this name left there."""
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (path.is_file() and name not in contents.files):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _check_room(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size + SPARE > free:
        raise UserError(
            f"{folder} has room for {free / 1e6:,.1f} MB, and {size / 1e6:,.1f} MB are to come: make room, or use "
            "another --home"
        )


def _fetch_file(contents: Contents, name: str, place: Place, folder: Path, advance: Callable[[int], None]) -> None:
    path, file, digest = local(folder, name), contents.files[name], hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as writing:
        at = 0
        while at < file.size:
            block = place.read_block(f"{contents.id}/{name}", at, min(at + BLOCK, file.size))
            if not block:
                break
            writing.write(block)
            digest.update(block)
            at += len(block)
            advance(len(block))
        to_disk(writing)
    if at != file.size or digest.hexdigest() != file.sha256:
        path.unlink()
        what = "is cut off or missing" if at < file.size else "has another sha256"
        raise UserError(f"{place.url}/{contents.id} is damaged: {name} {what}; push the checkpoint with --replace")


def _flush(folder: Path) -> None:
    """Make names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(arguments: Sequence[str]) -> int:
    """`python -m training pull`."""
    config = parse(Config, "pull", arguments)
    if config.names:
        pull(config)
    else:
        show(Place(config.url))
    return 0
