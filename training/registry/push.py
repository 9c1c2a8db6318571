"""`python -m training push`: checkpoints of a home into an object store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from training.artifacts import checkpoints, lineage, progress
from training.artifacts.checkpoints import MANIFEST, Checkpoint
from training.artifacts.errors import UserError
from training.registry.contents import CONTENTS, contents_of, local
from training.registry.places import Place
from training.runtime.configuration import parse


@dataclass(frozen=True)
class Config:
    """Copy checkpoints to a place that other machines pull them from. What is there already is left alone; a stopped
    push resumes."""

    url: tyro.conf.Positional[str]
    """The place: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER."""
    names: tyro.conf.Positional[tuple[str, ...]]
    """Checkpoints: ids, or stages for the newest of each."""
    parents: bool = False
    """Also copy all that they were made from."""
    replace: bool = False
    """Upload every file again, also where the checkpoint is there: what is damaged there is mended so."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


def push(config: Config) -> list[str]:
    """Copy checkpoints to the place; ids of those that it has now.

    Raises:
        UserError: there is no such checkpoint, it is damaged, or the place cannot be written.
    """
    store = config.home / "checkpoints"
    if not config.names:
        raise UserError("no checkpoint is named: give ids, or stages for the newest of each")
    place = Place(config.url)
    named = {one.id: one for one in (checkpoints.resolve(name, store) for name in config.names)}
    whole, absent = with_parents(store, named.values(), config.parents)
    for checkpoint in whole:
        _push(checkpoint, place, config.replace)
    ids = [one.id for one in whole]
    if config.parents and absent:
        progress.say(f"left out: {', '.join(absent)}, no longer in {store}")
    elif not config.parents:
        left = sorted({parent for one in whole for parent in one.manifest.parents} - set(ids))
        if left:
            progress.say(f"left out: the parents {', '.join(left)} (--parents takes them)")
    return ids


def with_parents(store: Path, named: Iterable[Checkpoint], parents: bool) -> tuple[list[Checkpoint], list[str]]:
    """Checkpoints with all that they were made from, that first; and ids that the store does not have."""
    if not parents:
        return list(named), []
    order: dict[str, Checkpoint | None] = {}
    for one in named:
        for step in reversed(lineage.ancestry(one.path.parent, one.path.name)):
            order.setdefault(step.id, step.checkpoint)
    return [one for one in order.values() if one is not None], [id for id, one in order.items() if one is None]


def _push(checkpoint: Checkpoint, place: Place, replace: bool) -> None:
    contents = contents_of(checkpoint)
    id, manifest = checkpoint.id, (checkpoint.path / MANIFEST).read_bytes()
    remote = place.read(f"{id}/{MANIFEST}")
    if remote is not None and not replace:
        _refuse_other(remote, manifest, place, id)
        progress.say(f"{id}: is there already")
        return
    place.remove(f"{id}/{MANIFEST}")  # first: while files change, it is not a checkpoint
    with progress.bar(f"pushing {id}", contents.size) as bar:
        for name, file in contents.files.items():
            if name == MANIFEST:
                continue
            bar.note(name)
            if not replace and place.size(f"{id}/{name}") == file.size:
                bar.advance(file.size)  # of a push that was stopped; who pulls compares the hash
                continue
            place.upload(str(local(checkpoint.path, name)), f"{id}/{name}", bar.advance)
        place.write(f"{id}/{CONTENTS}", contents.to_json())
        if (other := place.read(f"{id}/{MANIFEST}")) is not None:
            _refuse_other(other, manifest, place, id)  # another push of the same name was faster
        place.write(f"{id}/{MANIFEST}", manifest)
        bar.advance(len(manifest))
    progress.say(f"{id}: {len(contents.files)} files, {contents.size / 1e6:,.1f} MB, in {place.url}")


def _refuse_other(remote: bytes, own: bytes, place: Place, id: str) -> None:
    if remote != own:
        raise UserError(f"{place.url}/{id} is another checkpoint than the one of this home: use another place")


def main(arguments: Sequence[str]) -> int:
    """`python -m training push`."""
    push(parse(Config, "push", arguments))
    return 0
