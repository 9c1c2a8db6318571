"""The pool of stored prompts: which one comes next for a labeler, and what is out of use for whom."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, Engine, Select, and_, delete, exists, func, or_, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from service.store.models import Prompt, SetAside, Task, now

LARGE = 10_000  # prompts; above it the size of the pool is counted only now and then
RECOUNT_SECONDS = 5.0
LONGEST_REASON = 1000
_sizes: WeakKeyDictionary[Engine, tuple[float, int]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Progress:
    """How far a labeler is: tasks answered, stored prompts that are left for this labeler, and those that would be
    left if the policies took them."""

    answered: int
    left: int
    set_aside: int = 0


def choose_prompt(
    session: Session,
    labeler_id: str,
    tried: Collection[str] = (),
    *,
    checkpoints: Collection[str] = (),
    reserved: Collection[str] = (),
) -> Prompt | None:
    """A stored prompt that this labeler has not had: one of those with the fewest tasks, at random.

    Args:
        tried: prompts that are left out.
        checkpoints: policies that are to answer; a prompt that all of them refused is left out.
        reserved: prompts that are being given to somebody now; taken only when there is no other.
    """
    usable = and_(open_to(labeler_id), taken_by_any(checkpoints), Prompt.id.not_in(tried))
    if not reserved:
        return _untouched(session, usable) or _fewest(session, usable)
    free = and_(usable, Prompt.id.not_in(reserved))
    return _untouched(session, free) or _fewest(session, free) or _fewest(session, usable)


def _untouched(session: Session, usable: ColumnElement[bool]) -> Prompt | None:
    """A prompt without any task, along the random order from a random place: a large pool is not sorted for it."""
    start = random.random()
    without_task = ~exists().where(Task.prompt_id == Prompt.id)
    for part in (Prompt.place >= start, Prompt.place < start):
        query = select(Prompt).where(part, without_task, usable).order_by(Prompt.place).limit(1)
        prompt = session.scalar(query)
        if prompt is not None:
            return prompt
    return None


def _fewest(session: Session, usable: ColumnElement[bool]) -> Prompt | None:
    tasks = select(Task.prompt_id, func.count().label("n")).where(covers(Task)).group_by(Task.prompt_id)
    counted = tasks.subquery("tasks")
    return session.scalar(
        select(Prompt)
        .outerjoin(counted, counted.c.prompt_id == Prompt.id)
        .where(usable)
        .order_by(func.coalesce(counted.c.n, 0), func.random())
        .limit(1)
    )


def set_aside(session: Session, prompt_id: str, refusals: Mapping[str, str]) -> None:
    """Keep a prompt from the checkpoints that refused it. Others still get it.

    Args:
        refusals: checkpoint -> its reason, in a sentence.
    """
    if not refusals:
        return
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[session.get_bind().dialect.name]
    rows = [
        {"prompt_id": prompt_id, "checkpoint": checkpoint, "reason": _storable(reason), "created": now()}
        for checkpoint, reason in refusals.items()
    ]
    session.execute(insert(SetAside).values(rows).on_conflict_do_nothing())


def refused_by(session: Session, prompt_id: str) -> set[str]:
    """Checkpoints that this prompt is set aside for."""
    return set(session.scalars(select(SetAside.checkpoint).where(SetAside.prompt_id == prompt_id)))


def forget_refusals(session: Session, prompt_ids: Collection[str]) -> None:
    """Give prompts to every checkpoint again, as after a correction of their text."""
    session.execute(delete(SetAside).where(SetAside.prompt_id.in_(prompt_ids)))


def retire(session: Session, prompt_id: str, reason: str) -> None:
    """Give a prompt to nobody any more. Its comparisons stay."""
    prompt = session.get_one(Prompt, prompt_id)
    prompt.retired = now()
    prompt.meta = {**prompt.meta, "retired": _storable(reason)}


def progress(session: Session, labeler_id: str, checkpoints: Iterable[str] = ()) -> Progress:
    """What the labeler has answered, and what is left that any of the checkpoints takes."""
    answered = session.scalar(
        select(func.count()).select_from(Task).where(Task.labeler_id == labeler_id, Task.state == "answered")
    )
    # Counted from the few prompts of the labeler, and those refused: from the other side the whole pool is read.
    had = _had_by(labeler_id).subquery()
    refused = _refused_by_all(set(checkpoints)).subquery()
    not_had = refused.c.prompt_id.not_in(_had_by(labeler_id))
    number_had = _number_in_use(session, had.c.prompt_id)
    number_refused = _number_in_use(session, refused.c.prompt_id, not_had)
    return Progress(answered or 0, max(0, size(session) - number_had - number_refused), number_refused)


def _number_in_use(session: Session, ids: ColumnElement[str], *conditions: ColumnElement[bool]) -> int:
    """How many of the prompts named by a column of ids are in use."""
    is_in_use = exists().where(Prompt.id == ids, _in_use())
    return session.scalar(select(func.count(ids)).where(is_in_use, *conditions)) or 0


def size(session: Session) -> int:
    """Number of prompts in use. A large pool is counted every few seconds, a small one each time."""
    engine = session.get_bind().engine
    counted = _sizes.get(engine)
    if counted is not None and counted[1] >= LARGE and time.monotonic() - counted[0] < RECOUNT_SECONDS:
        return counted[1]
    number = session.scalar(select(func.count()).select_from(Prompt).where(_in_use())) or 0
    _sizes[engine] = (time.monotonic(), number)
    return number


def open_to(labeler_id: str) -> ColumnElement[bool]:
    """Prompts in use that this labeler has had no task on. What a labeler typed is nobody else's."""
    return and_(_in_use(), Prompt.id.not_in(_had_by(labeler_id)))


def taken_by_any(checkpoints: Collection[str]) -> ColumnElement[bool]:
    """Prompts that at least one of the checkpoints has not refused; all prompts where none is named."""
    return Prompt.id.not_in(_refused_by_all(set(checkpoints))) if checkpoints else true()


def covers(task: Any) -> ColumnElement[bool]:
    """Tasks that cover their prompt: answered, or likely to be."""
    return or_(task.state == "answered", and_(task.state == "open", task.expires > now()))


def _in_use() -> ColumnElement[bool]:
    return and_(Prompt.retired.is_(None), Prompt.source == "imported")


def _had_by(labeler_id: str) -> Select[str]:
    had = aliased(Task)
    return select(had.prompt_id).where(had.labeler_id == labeler_id, had.state != "expired")


def _refused_by_all(checkpoints: Collection[str]) -> Select[str]:
    return (
        select(SetAside.prompt_id)
        .where(SetAside.checkpoint.in_(checkpoints))
        .group_by(SetAside.prompt_id)
        .having(func.count() == max(1, len(checkpoints)))
    )


def _storable(reason: str) -> str:
    """A reason as every database takes it: engines quote the prompt, which may hold anything."""
    return reason.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:LONGEST_REASON]
