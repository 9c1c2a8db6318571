"""Tasks: K responses to one prompt, given to one labeler once, under a single-use token."""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, literal_column, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session, aliased

from service.errors import ApiError
from service.preferences import pool
from service.preferences.pool import open_to
from service.store.models import Answer, Labeler, Prompt, Task, TaskResponse, new_id, now
from training.artifacts.comparisons import Response

KINDS = ("compare", "rank")
MAX_K = 9  # as many as a person can rank, and the digits of the keyboard
MAX_OPEN = 4  # of one labeler: the one on screen, one put aside for a prompt of one's own, one reopened, the next one
MOST_STALE = 500  # tasks that are closed in one call
LOOKED_AT = 1000  # tasks among which a repeat is looked for


def check_kind(kind: str, k: int) -> None:
    """Raise `ApiError` 400 unless a task of this kind can have K responses."""
    if kind not in KINDS:
        raise ApiError(400, f"kind must be one of {', '.join(KINDS)}", param="kind")
    if kind == "compare" and k != 2:
        raise ApiError(400, "a comparison has k = 2: use kind `rank` for more", param="k")
    if not 2 <= k <= MAX_K:
        raise ApiError(400, f"k must be from 2 to {MAX_K}", param="k")


def choose_repeat(
    session: Session, labeler_id: str, kind: str, k: int, checkpoints: Collection[str], tries: int = 20
) -> Task | None:
    """A task that another labeler answered, with responses of `checkpoints` only, on a prompt new to this labeler.

    Giving the same responses to two people is the only way to see how far they agree. In a large store it is looked for
    among some tasks, not among all.
    """
    # From a random place along the ids, which are random: sorting all that were answered would take seconds at last.
    start = new_id()
    for part in (Task.id >= start, Task.id < start):
        near = select(Task.id).where(part).order_by(Task.id).limit(LOOKED_AT)
        candidates = session.scalars(
            select(Task)
            .join(Prompt)
            .where(part, Task.id.in_(near), Task.kind == kind, Task.state == "answered", Task.labeler_id != labeler_id)
            .where(open_to(labeler_id))
            .order_by(Task.id)
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
    """Store a task with a random order on screen. The labeler's oldest open tasks beyond `MAX_OPEN` are given back.

    Args:
        state: `open`, or `identical` for one that is passed over because its responses read alike. It is shown to
            nobody; the labeler does not get the prompt again.

    Returns:
        The task, and its token, which the store keeps only as a hash.

    Raises:
        IntegrityError: this labeler has a live task on this prompt.
    """
    # One after the other for each labeler: requests at the same time would each see too few open tasks.
    session.get_one(Labeler, labeler_id, with_for_update=True)
    shown = list(range(len(responses)))
    random.SystemRandom().shuffle(shown)
    task_id = new_id()
    token = _token(session, labeler_id, task_id)
    task = Task(
        id=task_id,
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
    pool.count_tasks(session, {prompt_id, *_give_back(session, labeler_id)})
    session.refresh(task, ["prompt"])
    return task, token


def resume(session: Session, labeler_id: str, kind: str, k: int, minutes: float) -> tuple[Task, str] | None:
    """The labeler's oldest open task of this kind and at most K responses; None if there is none.

    Its token is the one that it has: a second window shows the same task without breaking the first one's.
    """
    open_ones = session.scalars(
        select(Task)
        .where(Task.labeler_id == labeler_id, Task.state == "open", Task.kind == kind, Task.expires > now())
        .order_by(Task.created)
    )
    task = next((task for task in open_ones if len(task.responses) <= k and _all_differ(task)), None)
    return None if task is None else (task, renew(session, task, minutes))


def close_task(session: Session, task_id: str, labeler_id: str, token: str, state: str) -> bool:
    """Use up a task's token and close the task as `answered` or `skipped`.

    Returns:
        Whether this call closed it; otherwise the same token has closed it in the same way, and the caller may not
        have heard of it.

    Raises:
        ApiError: 404 not this labeler's task, 403 wrong token, 409 closed otherwise, 410 expired.
    """
    task = own_task(session, task_id, labeler_id)
    if not secrets.compare_digest(task.token_hash, _digest(token)):
        raise ApiError(403, "the task's token is wrong, or another was issued since", param="token", code="bad_token")
    if task.state == "expired" or (task.state == "open" and task.expires <= now()):
        raise ApiError(410, "the task has expired: ask for the next one", code="task_expired")
    closed = _swap_state(session, task, ("open",), state, closed=now())
    if not closed and task.state != state:
        raise closed_already(task)
    return closed


def closed_already(task: Task) -> ApiError:
    return ApiError(409, f"the task is {task.state} already: its token works once", code="task_closed")


def reopen_task(session: Session, task_id: str, labeler_id: str) -> Task:
    """Open an answered or skipped task again.

    Raises:
        ApiError: 404 not this labeler's task, 409 there is nothing to undo.
    """
    task = own_task(session, task_id, labeler_id)
    if not _swap_state(session, task, ("answered", "skipped"), "open", closed=None):
        raise ApiError(409, f"the task is {task.state}: there is nothing to undo", code="nothing_to_undo")
    return task


def own_task(session: Session, task_id: str, labeler_id: str) -> Task:
    """The task. Raises `ApiError` 404 if there is none or it was given to somebody else."""
    task = session.get(Task, task_id)
    if task is None or task.labeler_id != labeler_id:
        raise ApiError(404, "you have no such task", code="task_not_found")
    return task


def has_task(session: Session, labeler_id: str, prompt_id: str) -> bool:
    """Whether the labeler has, or had, a task on a prompt that was not given back."""
    query = select(Task.id).where(Task.labeler_id == labeler_id, Task.prompt_id == prompt_id, Task.state != "expired")
    return session.scalar(query.limit(1)) is not None


def expire_stale(session: Session) -> None:
    """Close tasks that were left open too long, `MOST_STALE` at most, so that their prompts can be given again."""
    is_stale = and_(Task.state == literal_column("'open'"), Task.expires <= now())
    # Looked for first, as nobody waits for readers; and one transaction closes what another has not begun to.
    stale = session.scalars(select(Task.id).where(is_stale).limit(MOST_STALE).with_for_update(skip_locked=True)).all()
    if stale:
        pool.count_tasks(session, _expire(session, stale))


def _expire(session: Session, task_ids: Sequence[str]) -> Sequence[str]:
    """Close those of the tasks that are open. Returns their prompts, whose tasks are to be counted anew."""
    changed = update(Task).where(Task.id.in_(task_ids), Task.state == "open").values(state="expired", closed=now())
    return session.scalars(changed.returning(Task.prompt_id)).all()


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
    if swapped.rowcount == 1 and after != "answered":  # what is answered was open, and covered its prompt already
        pool.count_tasks(session, [task.prompt_id])
    return swapped.rowcount == 1


def _give_back(session: Session, labeler_id: str) -> Sequence[str]:
    """Close the labeler's oldest open tasks beyond `MAX_OPEN`. Returns their prompts."""
    open_ones = select(Task.id).where(Task.labeler_id == labeler_id, Task.state == "open").order_by(Task.created.desc())
    beyond = session.scalars(open_ones.offset(MAX_OPEN)).all()
    return _expire(session, beyond) if beyond else ()


def renew(session: Session, task: Task, minutes: float) -> str:
    """The token of an open task, whose time starts anew."""
    token = _token(session, task.labeler_id, task.id)
    task.token_hash = _digest(token)
    task.expires = now() + timedelta(minutes=minutes)
    return token


def _token(session: Session, labeler_id: str, task_id: str) -> str:
    """The single-use token of a task: the same until the task is answered, and another one after that answer.

    Derived, so that every window of the labeler gets the same one and the store keeps no more than its hash.
    """
    labeler = session.get_one(Labeler, labeler_id)
    later = aliased(Answer)
    answer = session.scalar(
        select(Answer.id)
        .outerjoin(later, later.supersedes == Answer.id)
        .where(Answer.task_id == task_id, later.id.is_(None))
    )
    secret = (labeler.token_hash or labeler.id).encode()
    return hmac.new(secret, f"{task_id}:{answer or ''}".encode(), hashlib.sha256).hexdigest()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
