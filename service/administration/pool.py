"""The pool of prompts: what is out of use, for whom and why, and bringing it back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from service.administration.records import record
from service.errors import NotFound
from service.preferences import pool
from service.store.database import Store
from service.store.models import Prompt, SetAside, Task
from training.artifacts.errors import UserError

BATCH = 200  # prompts of one transaction
SHORT = 80  # characters of a prompt in a list


@dataclass(frozen=True)
class OutOfUse:
    """A prompt that somebody does not get.

    Attributes:
        prompt: its id.
        checkpoint: the policy that refused it; None for a prompt that is retired: nobody gets it.
        reason: in a sentence.
        time: since when, ISO 8601.
        text: how its last turn begins.
    """

    prompt: str
    checkpoint: str | None
    reason: str
    time: str
    text: str


class PoolSummary(TypedDict):
    """Numbers of prompts: in use, answered by anybody, retired, and set aside by checkpoint."""

    in_use: int
    answered: int
    retired: int
    set_aside: dict[str, int]


def summary(session: Session) -> PoolSummary:
    """How many prompts there are, and in which state."""
    in_use = (Prompt.source == "imported", Prompt.retired.is_(None))
    answered = select(func.count(Task.prompt_id.distinct())).join(Prompt).where(*in_use, Task.state == "answered")
    by_checkpoint = select(SetAside.checkpoint, func.count()).group_by(SetAside.checkpoint)
    return {
        "in_use": session.scalar(select(func.count()).select_from(Prompt).where(*in_use)) or 0,
        "answered": session.scalar(answered) or 0,
        "retired": session.scalar(select(func.count()).select_from(Prompt).where(Prompt.retired.is_not(None))) or 0,
        "set_aside": {row[0]: row[1] for row in session.execute(by_checkpoint)},
    }


def out_of_use(session: Session, checkpoint: str | None = None, limit: int = 100, offset: int = 0) -> list[OutOfUse]:
    """Prompts set aside or retired, newest first; with a checkpoint only those that it refused."""
    aside = select(SetAside, Prompt).join(Prompt).order_by(SetAside.created.desc(), SetAside.prompt_id)
    if checkpoint is not None:
        aside = aside.where(SetAside.checkpoint == checkpoint)
    newest = limit + offset
    rows = [
        OutOfUse(row.prompt_id, row.checkpoint, row.reason, row.created.isoformat(), _beginning(prompt))
        for row, prompt in session.execute(aside.limit(newest))
    ]
    if checkpoint is None:
        retired = select(Prompt).where(Prompt.retired.is_not(None)).order_by(Prompt.retired.desc(), Prompt.id)
        for prompt in session.scalars(retired.limit(newest)):
            assert prompt.retired is not None
            reason = str(prompt.meta.get("retired") or "retired")
            rows.append(OutOfUse(prompt.id, None, reason, prompt.retired.isoformat(), _beginning(prompt)))
    return sorted(rows, key=lambda row: row.time, reverse=True)[offset:newest]


def retire(store: Store, actor: str, prompts: Sequence[str], reason: str) -> int:
    """Give prompts to nobody any more; their comparisons stay. Returns how many were in use.

    Many are retired in batches, each in a transaction of its own: labelers answer meanwhile.

    Raises:
        NotFound: a prompt does not exist; then none is retired.
    """
    count = 0
    for session, batch in _in_batches(store, _known(store, prompts)):
        for row in session.scalars(select(Prompt).where(Prompt.id.in_(batch), Prompt.retired.is_(None))):
            pool.retire(session, row.id, reason)
            record(session, actor, "retire_prompt", row.id, reason=reason)
            count += 1
    return count


def restore(store: Store, actor: str, prompts: Sequence[str] | None = None, checkpoint: str | None = None) -> int:
    """Bring prompts back: retired ones for everybody, those set aside for the checkpoints that refused them.

    Many come back in batches, each in a transaction of its own: labelers answer meanwhile.

    Args:
        prompts: their ids; None for all that `checkpoint` refused.
        checkpoint: only what this checkpoint refused.

    Returns:
        How many prompts came back, or came back for a checkpoint.

    Raises:
        NotFound: a prompt does not exist; then none comes back.
        UserError: neither prompts nor a checkpoint is named.
    """
    if prompts is not None:
        names = _known(store, prompts)
    elif checkpoint is not None:
        with store.session() as session:
            names = session.scalars(select(SetAside.prompt_id).where(SetAside.checkpoint == checkpoint)).all()
    else:
        raise UserError("name prompts, or the checkpoint whose refused prompts are to come back")
    count = 0
    for session, batch in _in_batches(store, names):
        refused = delete(SetAside).where(SetAside.prompt_id.in_(batch)).returning(SetAside.prompt_id)
        if checkpoint is not None:
            refused = refused.where(SetAside.checkpoint == checkpoint)
        back = set(session.scalars(refused))
        if checkpoint is None:
            for row in session.scalars(select(Prompt).where(Prompt.id.in_(batch), Prompt.retired.is_not(None))):
                row.retired = None
                row.meta = {name: value for name, value in row.meta.items() if name != "retired"}
                back.add(row.id)
        if back:
            detail = {"count": len(back), "prompts": sorted(back)[:100]}
            record(session, actor, "restore_prompts", checkpoint or "all policies", **detail)
        count += len(back)
    return count


def _known(store: Store, prompts: Sequence[str]) -> Sequence[str]:
    """The prompts, each once. Raises `NotFound` where one does not exist."""
    names = list(dict.fromkeys(prompts))
    with store.session() as session:
        for batch in _batches(names):
            missing = sorted({*batch} - {*session.scalars(select(Prompt.id).where(Prompt.id.in_(batch)))})
            if missing:
                raise NotFound(f"no prompt {missing[0]!r}: see `python -m service pool list`")
    return names


def _in_batches(store: Store, prompts: Sequence[str]) -> Iterator[tuple[Session, Sequence[str]]]:
    """A session for each batch of prompts, committed when the next one is asked for."""
    for batch in _batches(prompts):
        began = time.monotonic()
        with store.session() as session:
            yield session, batch
        store.give_way(began)


def _batches(prompts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (prompts[first : first + BATCH] for first in range(0, len(prompts), BATCH))


def _beginning(prompt: Prompt) -> str:
    text = " ".join(str(prompt.messages[-1]["content"]).split())
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
