"""Answers: what a labeler said of a task. Rows are only added; a correction supersedes the row before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from service.errors import ApiError
from service.preferences.guidelines import FLAGS
from service.preferences.tasks import close_task, closed_already, own_task, renew, reopen_task
from service.store.models import Answer, Labeler, Task

T = TypeVar("T")
MAX_NOTE = 2000
MAX_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Judgement:
    """What the labeler said, by position on screen.

    Attributes:
        ranks: for each position, 1 = best; equal ranks are ties. None only with `all_bad`: then all tie.
        ratings: overall quality from 1 to 7, or None where not rated.
        flags: names of problems, of `guidelines.FLAGS`.
        all_bad: no response is acceptable.
        note: free text.
        seconds: time that the labeler took.
    """

    ranks: Sequence[int] | None = None
    ratings: Sequence[int | None] | None = None
    flags: Sequence[Sequence[str]] | None = None
    all_bad: bool = False
    note: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Changes:
    """What one labeler did after the names were shown: answers replaced, and answers withdrawn for good."""

    labeler: str
    revised: int
    withdrawn: int


def answer(session: Session, task_id: str, labeler_id: str, token: str, judgement: Judgement) -> Answer:
    """Store a judgement in the responses' stored order and close its task.

    The same judgement again under the same token, from somebody who has not heard of the first, is the same answer.

    Raises:
        ApiError: 400 for a judgement that does not fit the task, 409 for another one than was stored, and what
            `tasks.close_task` raises. Nothing is stored then, and the token of an open task still works.
    """
    task = own_task(session, task_id, labeler_id)
    _check(judgement, len(task.responses))
    row = _row(task, judgement)
    if not close_task(session, task_id, labeler_id, token, "answered"):
        return _stored_before(session, task, row)
    row.supersedes = latest_id(session, task)
    session.add(row)
    session.flush()
    return row


def skip(session: Session, task_id: str, labeler_id: str, token: str) -> Task:
    """Close a task without an answer. Raises what `tasks.close_task` raises."""
    close_task(session, task_id, labeler_id, token, "skipped")
    return own_task(session, task_id, labeler_id)


def undo(session: Session, task_id: str, labeler_id: str, minutes: float) -> tuple[Task, str]:
    """Withdraw the task's answer, or the skip, and open the task again under a new token.

    An answer that is withdrawn already, to somebody who has not heard of it, is the same open task.

    Raises:
        ApiError: what `tasks.reopen_task` raises.
    """
    task = own_task(session, task_id, labeler_id)
    if task.state == "open" and latest_id(session, task) is not None:
        return task, renew(session, task, minutes)
    answered = task.state == "answered"
    task = reopen_task(session, task_id, labeler_id)
    if answered:
        row = Answer(task_id=task.id, labeler_id=labeler_id, withdrawn=True, supersedes=latest_id(session, task))
        session.add(row)
        session.flush()
    return task, renew(session, task, minutes)


def standing() -> Select[Answer]:
    """Select the answers that count: neither withdrawn nor superseded."""
    later = aliased(Answer)
    return (
        select(Answer)
        .outerjoin(later, later.supersedes == Answer.id)
        .where(later.id.is_(None), Answer.withdrawn.is_(False))
    )


def blind() -> Select[Answer]:
    """Select the answers that were given before any name was shown: the first one of each task, whatever came later."""
    return select(Answer).where(Answer.supersedes.is_(None), Answer.withdrawn.is_(False))


def changes(session: Session) -> list[Changes]:
    """How often each labeler changed or withdrew an answer after the names were shown; those who never did are left
    out, and so are labelers whose answers are."""
    first, later, last = blind().subquery(), aliased(Answer), standing().subquery()
    rows = session.execute(
        select(Labeler.pseudonym, func.count(), func.count(last.c.id))
        .select_from(first)
        .join(later, later.supersedes == first.c.id)
        .join(Labeler, Labeler.id == first.c.labeler_id)
        .outerjoin(last, last.c.task_id == first.c.task_id)
        .where(Labeler.excluded.is_(None))
        .group_by(Labeler.pseudonym)
        .order_by(Labeler.pseudonym)
    )
    return [Changes(pseudonym, revised, changed - revised) for pseudonym, changed, revised in rows]


def _row(task: Task, judgement: Judgement) -> Answer:
    shown: list[int] = task.shown
    return Answer(
        task_id=task.id,
        labeler_id=task.labeler_id,
        ranks=_stored(shown, judgement.ranks or [1] * len(shown)),
        ratings=None if judgement.ratings is None else _stored(shown, judgement.ratings),
        flags=None if judgement.flags is None else _stored(shown, [sorted(set(names)) for names in judgement.flags]),
        all_bad=judgement.all_bad,
        note=(judgement.note or "").strip() or None,
        seconds=judgement.seconds,
    )


def _stored_before(session: Session, task: Task, row: Answer) -> Answer:
    """The task's answer, where it says the same as `row`; the time taken may differ, as a page counts on."""
    stored = session.get_one(Answer, latest_id(session, task))
    if any(getattr(stored, name) != getattr(row, name) for name in ("ranks", "ratings", "flags", "all_bad", "note")):
        raise closed_already(task)
    return stored


def latest_id(session: Session, task: Task) -> str | None:
    """The task's answer that nothing supersedes yet, withdrawn or not."""
    later = aliased(Answer)
    return session.scalar(
        select(Answer.id)
        .outerjoin(later, later.supersedes == Answer.id)
        .where(Answer.task_id == task.id, later.id.is_(None))
    )


def _stored(shown: Sequence[int], by_position: Sequence[T]) -> list[T]:
    """Values by screen position, put into stored order."""
    values = dict(zip(shown, by_position, strict=True))
    return [values[index] for index in range(len(shown))]


def _check(judgement: Judgement, k: int) -> None:
    if judgement.ranks is None and not judgement.all_bad:
        raise ApiError(400, "give `ranks`, or `all_bad`", param="ranks")
    for name, values in (
        ("ranks", judgement.ranks),
        ("ratings", judgement.ratings),
        ("flags", judgement.flags),
    ):
        if values is not None and len(values) != k:
            raise ApiError(400, f"`{name}` must have {k} entries, one for each position", param=name)
    if judgement.ranks is not None and not all(1 <= rank <= k for rank in judgement.ranks):
        raise ApiError(400, f"ranks must be whole numbers from 1 to {k}", param="ranks")
    if judgement.ratings is not None and not all(r is None or 1 <= r <= 7 for r in judgement.ratings):
        raise ApiError(400, "ratings must be whole numbers from 1 to 7", param="ratings")
    unknown = sorted({name for names in judgement.flags or () for name in names} - set(FLAGS))
    if unknown:
        raise ApiError(400, f"unknown flag {unknown[0]!r}: use {', '.join(FLAGS)}", param="flags")
    if judgement.note is not None and (len(judgement.note) > MAX_NOTE or "\0" in judgement.note):
        raise ApiError(400, f"a note has at most {MAX_NOTE} characters", param="note")
    if judgement.seconds is not None and not 0 <= judgement.seconds <= MAX_SECONDS:
        raise ApiError(400, "seconds must be a positive time", param="seconds")
