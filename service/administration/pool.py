"""The pool of prompts: what is out of use, for whom and why, and bringing it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from service.administration.records import record
from service.errors import NotFound
from service.preferences import pool
from service.store.models import Prompt, SetAside, Task
from training.artifacts.errors import UserError

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


def retire(session: Session, actor: str, prompts: Sequence[str], reason: str) -> int:
    """Give prompts to nobody any more; their comparisons stay. Returns how many were in use. Raises `NotFound`."""
    rows = _find(session, prompts)
    in_use = [row for row in rows if row.retired is None]
    for row in in_use:
        pool.retire(session, row.id, reason)
        record(session, actor, "retire_prompt", row.id, reason=reason)
    return len(in_use)


def restore(session: Session, actor: str, prompts: Sequence[str] | None = None, checkpoint: str | None = None) -> int:
    """Bring prompts back: retired ones for everybody, those set aside for the checkpoints that refused them.

    Args:
        prompts: their ids; None for all that `checkpoint` refused.
        checkpoint: only what this checkpoint refused.

    Returns:
        How many prompts came back, or came back for a checkpoint.

    Raises:
        NotFound: a prompt does not exist.
        UserError: neither prompts nor a checkpoint is named.
    """
    if prompts is None and checkpoint is None:
        raise UserError("name prompts, or the checkpoint whose refused prompts are to come back")
    refused = delete(SetAside)
    if checkpoint is not None:
        refused = refused.where(SetAside.checkpoint == checkpoint)
    back: set[str] = set()
    if prompts is not None:
        rows = _find(session, prompts)
        refused = refused.where(SetAside.prompt_id.in_(prompts))
        for row in rows:
            if row.retired is not None and checkpoint is None:
                row.retired = None
                row.meta = {name: value for name, value in row.meta.items() if name != "retired"}
                back.add(row.id)
    back.update(session.scalars(refused.returning(SetAside.prompt_id)))
    if back:
        names = sorted(back)[:100]
        record(session, actor, "restore_prompts", checkpoint or "all policies", count=len(back), prompts=names)
    return len(back)


def _find(session: Session, prompts: Sequence[str]) -> list[Prompt]:
    rows = session.scalars(select(Prompt).where(Prompt.id.in_(prompts))).all()
    missing = sorted(set(prompts) - {row.id for row in rows})
    if missing:
        raise NotFound(f"no prompt {missing[0]!r}: see `python -m service pool list`")
    return list(rows)


def _beginning(prompt: Prompt) -> str:
    text = " ".join(str(prompt.messages[-1]["content"]).split())
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
