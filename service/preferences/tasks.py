"""Tasks: K responses to one prompt, given to one labeler once, under a single-use token."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session, aliased

from service.errors import ApiError
from service.store.models import Prompt, Task, TaskResponse, now
from training.artifacts.comparisons import Response

KINDS = ("compare", "rank")
MOST_COUNTED = 10_000  # counting a million prompts after every answer would keep labelers waiting
MAX_K = 9  # as many as a person can rank, and the digits of the keyboard


@dataclass(frozen=True)
class Progress:
    """How far a labeler is: tasks answered, and stored prompts that are left for this labeler, up to `MOST_COUNTED`."""

    answered: int
    left: int


def check_kind(kind: str, k: int) -> None:
    """Raise `ApiError` 400 unless a task of this kind can have K responses."""
    if kind not in KINDS:
        raise ApiError(400, f"kind must be one of {', '.join(KINDS)}", param="kind")
    if kind == "compare" and k != 2:
        raise ApiError(400, "a comparison has k = 2: use kind `rank` for more", param="k")
    if not 2 <= k <= MAX_K:
        raise ApiError(400, f"k must be from 2 to {MAX_K}", param="k")


def choose_prompt(session: Session, labeler_id: str, tried: Collection[str] = ()) -> Prompt | None:
    """A stored prompt that this labeler has not had, and none of `tried`: one of those with the fewest tasks, at
    random."""
    tasks = (
        select(Task.prompt_id, func.count().label("n")).where(_counts(Task)).group_by(Task.prompt_id).subquery("tasks")
    )
    return session.scalar(
        select(Prompt)
        .outerjoin(tasks, tasks.c.prompt_id == Prompt.id)
        .where(_open_to(labeler_id), Prompt.id.not_in(tried))
        .order_by(func.coalesce(tasks.c.n, 0), func.random())
        .limit(1)
    )


def choose_repeat(
    session: Session, labeler_id: str, kind: str, k: int, checkpoints: Collection[str], tries: int = 20
) -> Task | None:
    """A task that another labeler answered, with responses of `checkpoints` only, on a prompt new to this labeler.

    Giving the same responses to two people is the only way to see how far they agree.
    """
    candidates = session.scalars(
        select(Task)
        .join(Prompt)
        .where(Task.kind == kind, Task.state == "answered", Task.labeler_id != labeler_id, _open_to(labeler_id))
        .order_by(func.random())
        .limit(tries)
    )
    for task in candidates:
        same_policies = all(response.checkpoint in checkpoints for response in task.responses)
        if len(task.responses) == k and same_policies and _all_differ(task):
            return task
    return None


def _all_differ(task: Task) -> bool:
    """Whether no two responses read alike."""
    return len({response.text.strip() for response in task.responses}) == len(task.responses)


def open_task(
    session: Session,
    labeler_id: str,
    kind: str,
    prompt_id: str,
    responses: Sequence[Response],
    *,
    guideline: str,
    propensity: float | None,
    minutes: float,
    state: str = "open",
) -> tuple[Task, str]:
    """Store a task with a random order on screen.

    Args:
        state: `open`, or `identical` for one that is passed over because its responses read alike. It is shown to
            nobody; the labeler does not get the prompt again.

    Returns:
        The task, and its token, which the store keeps only as a hash.

    Raises:
        IntegrityError: this labeler has a live task on this prompt.
    """
    shown = list(range(len(responses)))
    random.SystemRandom().shuffle(shown)
    token = secrets.token_urlsafe(24)
    task = Task(
        kind=kind,
        prompt_id=prompt_id,
        labeler_id=labeler_id,
        token_hash=_digest(token),
        state=state,
        shown=shown,
        guideline=guideline,
        propensity=propensity,
        expires=now() + timedelta(minutes=minutes),
        responses=[
            TaskResponse(
                position=position,
                text=response.text,
                checkpoint=response.checkpoint,
                sampling=dict(response.sampling),
                finish_reason=response.finish_reason,
            )
            for position, response in enumerate(responses)
        ],
    )
    session.add(task)
    session.flush()
    session.refresh(task, ["prompt"])
    return task, token


def resume(session: Session, labeler_id: str, kind: str, k: int, minutes: float) -> tuple[Task, str] | None:
    """The labeler's oldest open task of this kind and at most K responses, under a new token; None if there is none."""
    open_ones = session.scalars(
        select(Task)
        .where(Task.labeler_id == labeler_id, Task.state == "open", Task.kind == kind, Task.expires > now())
        .order_by(Task.created)
    )
    task = next((task for task in open_ones if len(task.responses) <= k and _all_differ(task)), None)
    return None if task is None else (task, _renew(task, minutes))


def close_task(session: Session, task_id: str, labeler_id: str, token: str, state: str) -> Task:
    """Use up a task's token and close the task as `answered` or `skipped`.

    Raises:
        ApiError: 404 not this labeler's task, 403 wrong token, 409 closed already, 410 expired.
    """
    task = own_task(session, task_id, labeler_id)
    if not secrets.compare_digest(task.token_hash, _digest(token)):
        raise ApiError(403, "the task's token is wrong, or another was issued since", param="token", code="bad_token")
    if task.state == "open" and task.expires <= now():
        raise ApiError(410, "the task has expired: ask for the next one", code="task_expired")
    if not _swap_state(session, task, ("open",), state, closed=now()):
        raise ApiError(409, f"the task is {task.state} already: its token works once", code="task_closed")
    return task


def reopen_task(session: Session, task_id: str, labeler_id: str, minutes: float) -> tuple[Task, str]:
    """Open an answered or skipped task again, under a new token.

    Raises:
        ApiError: 404 not this labeler's task, 409 there is nothing to undo.
    """
    task = own_task(session, task_id, labeler_id)
    if not _swap_state(session, task, ("answered", "skipped"), "open", closed=None):
        raise ApiError(409, f"the task is {task.state}: there is nothing to undo", code="nothing_to_undo")
    return task, _renew(task, minutes)


def own_task(session: Session, task_id: str, labeler_id: str) -> Task:
    """The task. Raises `ApiError` 404 if there is none or it was given to somebody else."""
    task = session.get(Task, task_id)
    if task is None or task.labeler_id != labeler_id:
        raise ApiError(404, "you have no such task", code="task_not_found")
    return task


def expire_stale(session: Session, labeler_id: str) -> None:
    """Close the labeler's tasks that were left open too long, so that their prompts can be given again."""
    session.execute(
        update(Task)
        .where(Task.labeler_id == labeler_id, Task.state == "open", Task.expires <= now())
        .values(state="expired", closed=now())
    )


def progress(session: Session, labeler_id: str) -> Progress:
    """What the labeler has answered, and what is left."""
    answered = session.scalar(
        select(func.count()).select_from(Task).where(Task.labeler_id == labeler_id, Task.state == "answered")
    )
    some = select(Prompt.id).where(_open_to(labeler_id)).limit(MOST_COUNTED).subquery()
    left = session.scalar(select(func.count()).select_from(some))
    return Progress(answered or 0, left or 0)


def retire(session: Session, prompt_id: str, reason: str) -> None:
    """Give a prompt to nobody any more. Its comparisons stay."""
    prompt = session.get_one(Prompt, prompt_id)
    prompt.retired = now()
    prompt.meta = {**prompt.meta, "retired": reason}


def _counts(task: Any) -> ColumnElement[bool]:
    """Tasks that cover their prompt: answered, or likely to be."""
    return or_(task.state == "answered", and_(task.state == "open", task.expires > now()))


def _open_to(labeler_id: str) -> ColumnElement[bool]:
    """Prompts in use that this labeler has had no task on. What a labeler typed is nobody else's."""
    had = aliased(Task)
    mine = select(had.prompt_id).where(had.labeler_id == labeler_id, had.state != "expired")
    return and_(Prompt.retired.is_(None), Prompt.source == "imported", Prompt.id.not_in(mine))


def _swap_state(session: Session, task: Task, before: tuple[str, ...], after: str, **values: Any) -> bool:
    """Change the state if it is still one of `before`: of two requests at once, one wins."""
    swapped = session.execute(
        update(Task)
        .where(Task.id == task.id, Task.state.in_(before))
        .values(state=after, **values)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(swapped, CursorResult)
    session.refresh(task, ["state", "closed"])
    return swapped.rowcount == 1


def _renew(task: Task, minutes: float) -> str:
    token = secrets.token_urlsafe(24)
    task.token_hash = _digest(token)
    task.expires = now() + timedelta(minutes=minutes)
    return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
