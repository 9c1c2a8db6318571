"""The pool of stored prompts: which one comes next for a labeler, and what is out of use for whom."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, Engine, Select, and_, delete, exists, func, literal_column, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from service.store.models import Prompt, SetAside, Task, now

LARGE = 10_000  # prompts; above it the size of the pool is counted only now and then
RECOUNT_SECONDS = 5.0
LONGEST_REASON = 1000
COVERING = ("open", "answered")  # states of tasks that cover their prompt: answered, or likely to be
_counting = threading.Lock()
# When a number was counted, and the number: of prompts in use under no checkpoint, of those refused under who refused.
_counts: WeakKeyDictionary[Engine, dict[frozenset[str], tuple[float, int]]] = WeakKeyDictionary()


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
    """A stored prompt that this labeler has not had: one of those in the lowest tier, at random.

    Args:
        tried: prompts that are left out.
        checkpoints: policies that are to answer; a prompt that all of them refused is left out.
        reserved: prompts that are being given to somebody now; taken only when there is no other.
    """
    usable = and_(open_to(labeler_id), taken_by_any(checkpoints), Prompt.id.not_in(tried))
    if not reserved:
        return _lowest(session, usable)
    return _lowest(session, and_(usable, Prompt.id.not_in(reserved))) or _lowest(session, usable)


def _lowest(session: Session, usable: ColumnElement[bool]) -> Prompt | None:
    """A prompt of the lowest tier, along the random order from a random place: a large pool is not sorted for it."""
    tier = session.scalar(select(Prompt.tier).where(usable).order_by(Prompt.tier, Prompt.place).limit(1))
    if tier is None:
        return None
    start = random.random()
    for part in (Prompt.place >= start, Prompt.place < start):
        query = select(Prompt).where(Prompt.tier == tier, part, usable).order_by(Prompt.place).limit(1)
        prompt = session.scalar(query)
        if prompt is not None:
            return prompt
    return None


def count_tasks(session: Session, prompt_ids: Collection[str]) -> None:
    """Bring the tiers of prompts up to date after their tasks came, or came to cover their prompt or not to."""
    # Transactions at once wait for each other here, in one order, so that the later one counts what the earlier wrote.
    own = select(Prompt.id).where(Prompt.id.in_(prompt_ids)).order_by(Prompt.id)
    session.execute(own.with_for_update(key_share=True))
    covering = select(func.count()).where(Task.prompt_id == Prompt.id, Task.state.in_(COVERING)).scalar_subquery()
    changed = update(Prompt).where(Prompt.id.in_(prompt_ids)).values(tier=1 + covering)
    session.execute(changed.execution_options(synchronize_session=False))


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
    # Counted from the few prompts of the labeler: from the other side the whole pool, or all that is refused, is read.
    names = frozenset(checkpoints)
    refused = _counted(session, names) if names else 0
    if refused:
        refused -= _number_had(session, labeler_id, ~taken_by_any(names))
    left = size(session) - _number_had(session, labeler_id) - refused
    return Progress(answered or 0, max(0, left), max(0, refused))


def _number_had(session: Session, labeler_id: str, *conditions: ColumnElement[bool]) -> int:
    """How many prompts in use the labeler has had."""
    had = select(func.count()).select_from(Task).join(Prompt).where(Task.labeler_id == labeler_id, is_live(Task))
    return session.scalar(had.where(_in_use(), *conditions)) or 0


def size(session: Session) -> int:
    """Number of prompts in use. A large pool is counted every few seconds, a small one each time."""
    return _counted(session, frozenset())


def _counted(session: Session, refused_by: frozenset[str]) -> int:
    """Number of prompts in use, or of those that all these checkpoints refused."""
    known = _counts.get(session.get_bind().engine, {}).get(refused_by)
    if known is None or known[1] < LARGE:
        return _count(session, refused_by)
    # Of many who ask at once, one counts: the others would only slow it down.
    if time.monotonic() - known[0] < RECOUNT_SECONDS or not _counting.acquire(blocking=False):
        return known[1]
    try:
        return _count(session, refused_by)
    finally:
        _counting.release()


def _count(session: Session, refused_by: frozenset[str]) -> int:
    query = select(func.count()).select_from(Prompt).where(_in_use())
    if refused_by:
        query = query.where(Prompt.id.in_(_refused_by_all(refused_by)))
    number = session.scalar(query) or 0
    _counts.setdefault(session.get_bind().engine, {})[refused_by] = (time.monotonic(), number)
    return number


def open_to(labeler_id: str) -> ColumnElement[bool]:
    """Prompts in use that this labeler has had no task on. What a labeler typed is nobody else's."""
    # Asked of each prompt that is looked at: a set of all that a labeler had would be read anew for every choice.
    had = aliased(Task)
    return and_(_in_use(), ~exists().where(had.prompt_id == Prompt.id, had.labeler_id == labeler_id, is_live(had)))


def taken_by_any(checkpoints: Collection[str]) -> ColumnElement[bool]:
    """Prompts that at least one of the checkpoints has not refused; all prompts where none is named."""
    names = set(checkpoints)
    if not names:
        return true()
    refused = select(func.count()).where(SetAside.prompt_id == Prompt.id, SetAside.checkpoint.in_(names))
    return refused.correlate(Prompt).scalar_subquery() < len(names)


def is_live(task: Any) -> ColumnElement[bool]:
    """Tasks whose prompt the labeler has had. As the index over them says it: a parameter would hide that it fits."""
    return cast(ColumnElement[bool], task.state != literal_column("'expired'"))


def _in_use() -> ColumnElement[bool]:
    """As the pool's index says it."""
    return and_(Prompt.retired.is_(None), Prompt.source == literal_column("'imported'"))


def _refused_by_all(checkpoints: Collection[str]) -> Select[str]:
    return (
        select(SetAside.prompt_id)
        .where(SetAside.checkpoint.in_(checkpoints))
        .group_by(SetAside.prompt_id)
        .having(func.count() == len(checkpoints))
    )


def _storable(reason: str) -> str:
    """A reason as every database takes it: engines quote the prompt, which may hold anything."""
    return reason.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:LONGEST_REASON]
