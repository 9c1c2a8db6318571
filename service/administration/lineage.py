"""What is behind an answer, and what a vote went into: checkpoints, data and votes as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from service.errors import NotFound
from service.preferences import answers
from service.store.models import Alias, Answer, Audit, Labeler, Task
from training.artifacts import checkpoints, lineage
from training.artifacts.lineage import Data, Step

PROMOTIONS = ("promote", "rollback", "take_back")
STATES = {
    "whole": "unchanged",
    "changed": "CHANGED since it was read",
    "missing": "MISSING",
    "elsewhere": "a folder or a data set of the hub: not compared",
}


class VotesRow(TypedDict):
    """Votes of a frozen set. `ids` are those of answers; labelers by pseudonym."""

    count: int
    simulated: int
    labelers: dict[str, int]
    guidelines: dict[str, int]
    ids: list[str]


class DataRow(TypedDict):
    """A source; `state` compares what lies at its path now with the sha256 of what was read then."""

    role: str
    path: str
    sha256: str
    rows: int
    left_out: int
    state: str
    votes: VotesRow | None


class PromotionRow(TypedDict):
    """A change of an alias's target to this checkpoint; `gate` is the release gate's verdict that it was given with."""

    time: str
    alias: str
    action: str
    actor: str
    gate: dict[str, Any] | None


class CheckpointRow(TypedDict):
    """A checkpoint of the way; `children` are the ids of those that were made from it. Where the store no longer has
    it, nothing but its id is known, and `stage` is None."""

    id: str
    children: list[str]
    stage: str | None
    kind: str | None
    created: str | None
    base_model: str | None
    git_commit: str | None
    data: list[DataRow]
    promotions: list[PromotionRow]


class Behind(TypedDict):
    """A checkpoint and all that it was made from, it first."""

    checkpoint: str
    aliases: list[str]
    steps: list[CheckpointRow]


class LearnedRow(TypedDict):
    """A checkpoint that learned from the vote: by the frozen set `file`, or only through its parents."""

    id: str
    stage: str
    file: str | None
    through: list[str]
    aliases: list[str]


class VoteRow(TypedDict):
    """A vote: its answer's id, what was compared, and by whom."""

    id: str
    task: str
    prompt_id: str
    labeler: str
    guideline: str
    created: str
    stands: bool
    compared: list[str | None]


class Ahead(TypedDict):
    """A vote and every checkpoint that learned from it, oldest first. `vote` is None for one of another store;
    `not_read` are files of checkpoints that are changed or missing, so that nobody can tell."""

    vote: VoteRow | None
    learned: list[LearnedRow]
    not_read: list[str]


def checkpoint_of(session: Session, store: Path, name: str) -> str | None:
    """The id of the checkpoint that an id, a stage or an alias names; None where it names none. The store may no longer
    have one that an alias or a promotion names."""
    alias = session.get(Alias, name)
    if alias is not None:
        return alias.served or alias.checkpoint
    id = checkpoints.id_of(name, store)
    if id is None and _promotions(session, name):
        return name
    return id


def behind_name(session: Session, store: Path, name: str) -> Behind:
    """What the checkpoint of an id, a stage or an alias was made from.

    Raises:
        NotFound: there is no such checkpoint.
    """
    id = checkpoint_of(session, store, name)
    if id is None:
        raise NotFound(f"no checkpoint {name!r}: give an id, a stage or an alias (`python -m service aliases list`)")
    return behind(session, store, id)


def behind(session: Session, store: Path, id: str) -> Behind:
    """What a checkpoint was made from."""
    steps = lineage.ancestry(store, id)
    return {
        "checkpoint": id,
        "aliases": _aliases_of(session, id),
        "steps": [_step(session, step) for step in steps],
    }


def ahead(session: Session, store: Path, vote: str) -> Ahead:
    """Where a vote went; `vote` is the id of an answer or of its task.

    Raises:
        NotFound: neither the store nor a frozen set of a checkpoint knows it.
    """
    answer = session.get(Answer, vote) or _newest(session, vote)
    learned, not_read = lineage.learned_from(store, vote if answer is None else answer.id)
    if answer is None and not learned:
        raise NotFound(
            f"{vote!r} is not a checkpoint, an alias, a task or an answer: an answer's header x-alignloop-checkpoint "
            "names the first, an export the last"
        )
    return {
        "vote": None if answer is None else _vote(session, answer),
        "learned": [
            {
                "id": one.checkpoint.id,
                "stage": one.checkpoint.manifest.stage,
                "file": one.file,
                "through": list(one.through),
                "aliases": _aliases_of(session, one.checkpoint.id),
            }
            for one in learned
        ],
        "not_read": not_read,
    }


def _newest(session: Session, task_id: str) -> Answer | None:
    """The newest answer to a task."""
    task = session.get(Task, task_id)
    newest = None if task is None else answers.latest_id(session, task)
    return None if newest is None else session.get(Answer, newest)


def _vote(session: Session, answer: Answer) -> VoteRow:
    task, labeler = session.get_one(Task, answer.task_id), session.get_one(Labeler, answer.labeler_id)
    later = session.scalar(select(Answer.id).where(Answer.supersedes == answer.id))
    return {
        "id": answer.id,
        "task": task.id,
        "prompt_id": task.prompt_id,
        "labeler": labeler.pseudonym,
        "guideline": task.guideline,
        "created": answer.created.isoformat(timespec="seconds"),
        "stands": later is None and not answer.withdrawn and labeler.excluded is None,
        "compared": [response.checkpoint for response in task.responses],
    }


def _aliases_of(session: Session, checkpoint: str) -> list[str]:
    return list(session.scalars(select(Alias.name).where(Alias.served == checkpoint).order_by(Alias.name)))


def _step(session: Session, step: Step) -> CheckpointRow:
    row: CheckpointRow = {
        "id": step.id, "children": list(step.children), "stage": None, "kind": None, "created": None,
        "base_model": None, "git_commit": None, "data": [_data(data) for data in step.data],
        "promotions": _promotions(session, step.id),
    }  # fmt: skip
    if step.checkpoint is not None:
        manifest = step.checkpoint.manifest
        row["stage"], row["kind"], row["created"] = manifest.stage, manifest.kind, manifest.created
        row["base_model"], row["git_commit"] = manifest.base_model, manifest.git_commit
    return row


def _data(data: Data) -> DataRow:
    votes: VotesRow | None = None
    if data.votes is not None:
        votes = {
            "count": len(data.votes.ids),
            "simulated": data.votes.simulated,
            "labelers": dict(data.votes.labelers.most_common()),
            "guidelines": dict(data.votes.guidelines.most_common()),
            "ids": list(data.votes.ids),
        }
    return {
        "role": data.role, "path": data.path, "sha256": data.sha256, "rows": data.rows, "left_out": data.left_out,
        "state": data.state, "votes": votes,
    }  # fmt: skip


def _promotions(session: Session, checkpoint: str) -> list[PromotionRow]:
    rows: Sequence[Audit] = session.scalars(
        select(Audit)
        .where(Audit.action.in_(PROMOTIONS), Audit.detail["checkpoint"].as_string() == checkpoint)
        .order_by(Audit.id)
    ).all()
    return [
        {
            "time": row.time.isoformat(timespec="seconds"),
            "alias": row.subject,
            "action": row.action,
            "actor": row.actor,
            "gate": row.detail.get("gate"),
        }
        for row in rows
    ]
