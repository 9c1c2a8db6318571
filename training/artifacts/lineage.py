"""Where a checkpoint comes from: its parents, their data with the hashes checked, and the votes in frozen files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from training.artifacts import checkpoints, comparisons
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.comparisons import SIMULATED, Comparison
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file

VOTES = ("comparisons", "validation")  # roles of data, in a manifest, that may be votes
State = Literal["whole", "changed", "missing", "elsewhere"]


@dataclass(frozen=True)
class Data:
    """A source that a checkpoint was made with.

    Attributes:
        role: what it was used as, in the manifest.
        path: as the user wrote it.
        sha256: of what was read then.
        rows: that were read; `left_out` of them were not used.
        state: `whole` where a file of these bytes is there, `changed` where it has others, `missing` where there is
            none, `elsewhere` where it is not one file: a folder, or a data set of the hub.
        votes: of a whole file of comparisons in our own format, else None.
    """

    role: str
    path: str
    sha256: str
    rows: int
    left_out: int
    state: State
    votes: Votes | None = None


@dataclass(frozen=True)
class Votes:
    """What labelers said, in a frozen file: ids of the answers, and how many are of whom, by which guideline.

    Attributes:
        labelers: pseudonym -> votes.
        guidelines: version -> votes.
        simulated: votes of stand-in labelers.
        wrote: checkpoint that wrote a response which was judged -> number of these responses.
    """

    ids: tuple[str, ...]
    labelers: Counter[str]
    guidelines: Counter[str]
    simulated: int
    wrote: Counter[str]


@dataclass(frozen=True)
class Step:
    """A checkpoint on the way to the one that is traced.

    Attributes:
        checkpoint: None where the store no longer has it.
        children: ids of the checkpoints that were made from it directly, among those of the trace.
    """

    id: str
    checkpoint: Checkpoint | None
    children: tuple[str, ...]
    data: tuple[Data, ...] = field(default=())


def ancestry(store: Path, id: str) -> list[Step]:
    """The checkpoint and all that it was made from, it first, parents after those that were made from them."""
    children: dict[str, list[str]] = {id: []}
    whole: dict[str, Checkpoint | None] = {id: _load(store, id)}
    waiting = [id]
    while waiting:
        child = waiting.pop(0)
        for parent in _parents(whole[child]):
            if parent not in children:
                children[parent] = []
                whole[parent] = _load(store, parent)
                waiting.append(parent)
            children[parent].append(child)
    return [
        Step(name, whole[name], tuple(children[name]), tuple(data_of(whole[name])))
        for name in _children_first(id, children)
    ]


def _children_first(id: str, children: dict[str, list[str]]) -> list[str]:
    """Every checkpoint after all that were made from it."""
    order: dict[str, None] = {}
    rest = dict.fromkeys(children)
    while rest:
        # A cycle cannot be published; one that was written by hand is cut at its first checkpoint.
        following = next((name for name in rest if order.keys() >= set(children[name])), next(iter(rest)))
        order[following] = None
        del rest[following]
    return list(order)


def _parents(checkpoint: Checkpoint | None) -> tuple[str, ...]:
    return () if checkpoint is None else checkpoint.manifest.parents


def _load(store: Path, id: str) -> Checkpoint | None:
    if not checkpoints.is_inside(id):  # of a manifest that was written by hand: nothing outside the store is read
        return None
    try:
        return checkpoints.load(store / id)
    except UserError:
        return None


def data_of(checkpoint: Checkpoint | None) -> Iterator[Data]:
    """The sources of a checkpoint, each compared with what lies there now."""
    if checkpoint is None:
        return
    for role, path, sha256, facts in _sources(checkpoint):
        yield _data(role, path, sha256, facts)


def _sources(checkpoint: Checkpoint) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(role, path, sha256, all facts) of each source in a manifest."""
    for role, facts in checkpoint.manifest.data.items():
        if isinstance(facts, dict) and "sha256" in facts:
            yield role, str(facts.get("path", "")), str(facts["sha256"]), facts


def _data(role: str, path: str, sha256: str, facts: Mapping[str, Any]) -> Data:
    state = _state(path, sha256)
    votes = _votes(Path(path).expanduser()) if state == "whole" and role.split("/")[0] in VOTES else None
    skipped = facts.get("skipped")
    left_out = sum(map(_count, skipped.values())) if isinstance(skipped, dict) else 0
    return Data(role, path, sha256, _count(facts.get("rows")), left_out, state, votes)


def _count(value: Any) -> int:
    return value if type(value) is int else 0


def _state(path: str, sha256: str) -> State:
    try:
        file = Path(path).expanduser()
        if file.is_file():
            state = file.stat()
            same = _sha256(file, state.st_size, state.st_mtime_ns, state.st_ino) == sha256
            return "whole" if same else "changed"
        if file.is_dir() or (not file.is_absolute() and not file.suffix):
            return "elsewhere"
    except (OSError, RuntimeError, ValueError):  # one that this process may not read, or no system takes the name of
        return "missing"
    return "missing"


@lru_cache(maxsize=1024)
def _sha256(file: Path, size: int, changed: int, inode: int) -> str:
    """Read once per file and change: a page that is looked at must not read gigabytes again."""
    return sha256_file(file)


def _votes(file: Path) -> Votes | None:
    rows = votes_in(file)
    if not rows:
        return None
    return Votes(
        ids=tuple(row.id for row in rows),
        labelers=Counter(row.labeler or "unknown" for row in rows),
        guidelines=Counter(row.guideline or "unknown" for row in rows),
        simulated=sum(row.labeler_group == SIMULATED for row in rows),
        wrote=Counter(r.checkpoint or "unknown" for row in rows for r in row.responses),
    )


def votes_in(file: Path) -> list[Comparison]:
    """The comparisons of a file in our own format that labelers gave; none of any other file."""
    try:
        rows, _ = comparisons.read(file)
    except (UserError, OSError):
        return []
    return [row for row in rows if row.labeler is not None]


@dataclass(frozen=True)
class Learned:
    """A checkpoint that learned from a vote.

    Attributes:
        file: the frozen set that holds the vote, for a checkpoint that was trained on it; else None.
        through: the parents that had learned from it.
    """

    checkpoint: Checkpoint
    file: str | None
    through: tuple[str, ...]


def learned_from(store: Path, vote: str) -> tuple[list[Learned], list[str]]:
    """The checkpoints that learned from a vote, oldest first.

    Returns:
        They, and the files that could not be looked into, which are changed or missing, each once.
    """
    learned: dict[str, Learned] = {}
    unread: dict[str, None] = {}
    seen: dict[tuple[str, str], bool] = {}  # path and hash -> whether the vote is in it
    for checkpoint in checkpoints.checkpoints(store):
        holding = None
        for role, path, sha256, _ in _sources(checkpoint):
            if role.split("/")[0] != VOTES[0]:  # validation rows choose no gradient
                continue
            if (path, sha256) not in seen:
                state = _state(path, sha256)
                if state in ("changed", "missing"):
                    unread[path] = None
                seen[path, sha256] = state == "whole" and any(
                    row.id == vote for row in votes_in(Path(path).expanduser())
                )
            if seen[path, sha256]:
                holding = path
        through = tuple(parent for parent in checkpoint.manifest.parents if parent in learned)
        if holding is not None or through:
            learned[checkpoint.id] = Learned(checkpoint, holding, through)
    return list(learned.values()), list(unread)
