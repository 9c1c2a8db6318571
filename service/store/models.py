"""Tables of the service. Times are UTC; secrets are stored as sha256 only; answers are append-only."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

from sqlalchemy import JSON, DateTime, Float, ForeignKey, Index, MetaData, String, Text, TypeDecorator, false, text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

IN_USE = "source = 'imported' and retired is null"  # of prompts; what labelers typed is nobody else's


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware UTC time on every database; SQLite drops the zone, this puts it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    return uuid4().hex


class Base(DeclarativeBase):
    # Named constraints: Alembic can alter them on every database.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[Any]: JSON, datetime: UtcDateTime}


class Key(Base):
    """An API key. `scopes` is a list of: generate, score, export, eval, admin."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    prefix: Mapped[str] = mapped_column(String(12))  # shown in lists, so that a person can tell keys apart
    scopes: Mapped[list[Any]]
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime | None]
    revoked: Mapped[datetime | None]


class Labeler(Base):
    """A person who ranks. Exports name only the pseudonym."""

    __tablename__ = "labelers"
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    pseudonym: Mapped[str] = mapped_column(String(40), unique=True)
    group: Mapped[str | None] = mapped_column("labeler_group", String(40))
    token_hash: Mapped[str | None] = mapped_column(String(64), unique=True)  # sign-in token
    created: Mapped[datetime] = mapped_column(default=now)
    disabled: Mapped[datetime | None]
    excluded: Mapped[datetime | None]  # since when the answers are left out of results and export


class LabelerSession(Base):
    """A signed-in browser. The cookie holds the secret, the table its hash."""

    __tablename__ = "labeler_sessions"
    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    labeler_id: Mapped[str] = mapped_column(ForeignKey("labelers.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]


class Engine(Base):
    """The endpoint table: which checkpoint is served where. Written by supervisors, read by gateways.

    `heartbeat` is the database's time (`database.clock`): the clocks of several machines differ.
    """

    __tablename__ = "engines"
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    checkpoint: Mapped[str] = mapped_column(String(200), index=True)
    kind: Mapped[str] = mapped_column(String(10))  # policy | reward
    url: Mapped[str] = mapped_column(String(500))
    state: Mapped[str] = mapped_column(String(10))  # starting | ready | draining | failed
    # Failed, and not tried again. A default of the table too, as supervisors of earlier versions do not write it.
    given_up: Mapped[bool] = mapped_column(default=False, server_default=false())
    supervisor: Mapped[str] = mapped_column(String(200))
    detail: Mapped[str | None] = mapped_column(Text)
    manifest: Mapped[dict[str, Any]]  # what a gateway needs: stage, context, generation, reward_offset, stop_ids
    plan: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")  # context, memory, threads, options
    started: Mapped[datetime] = mapped_column(default=now)
    heartbeat: Mapped[datetime] = mapped_column(default=now)


class Alias(Base):
    """A moving name such as policy/production.

    `checkpoint` is the target: what the alias was promoted or rolled back to. `served` is what answers its requests:
    it becomes the target when an engine of the target has proved itself, and nothing else ever changes it. A change of
    the target is a compare-and-swap on `version`, which it raises by one.
    """

    __tablename__ = "aliases"
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    checkpoint: Mapped[str] = mapped_column(String(200))
    version: Mapped[int] = mapped_column(default=1)
    updated: Mapped[datetime] = mapped_column(default=now)
    served: Mapped[str | None] = mapped_column(String(200))
    served_since: Mapped[datetime | None]
    fallback: Mapped[str | None] = mapped_column(String(200))  # the target before, where nothing was served yet
    note: Mapped[str | None] = mapped_column(Text)  # why the last target was taken back


class WantedEngine(Base):
    """A checkpoint that somebody requested an engine of, beside those of the aliases."""

    __tablename__ = "wanted_engines"
    checkpoint: Mapped[str] = mapped_column(String(200), primary_key=True)
    requested_by: Mapped[str] = mapped_column(String(200))
    created: Mapped[datetime] = mapped_column(default=now)


class EngineOptions(Base):
    """vLLM options of a checkpoint's engines, see `engines.options`."""

    __tablename__ = "engine_options"
    checkpoint: Mapped[str] = mapped_column(String(200), primary_key=True)
    options: Mapped[dict[str, Any]]
    updated: Mapped[datetime] = mapped_column(default=now)


class Audit(Base):
    """Who changed what. Rows are only ever added."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    time: Mapped[datetime] = mapped_column(default=now, index=True)
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(300))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Prompt(Base):
    """A stored prompt that tasks are made from."""

    __tablename__ = "prompts"
    # The prompts in use. The size of a large pool is counted from it, and prompts are given out along it.
    __table_args__ = (
        Index("ix_prompts_pool", "tier", "place", sqlite_where=text(IN_USE), postgresql_where=text(IN_USE)),
    )
    id: Mapped[str] = mapped_column(String(), primary_key=True)
    messages: Mapped[list[Any]]
    user: Mapped[str | None] = mapped_column("prompt_user", String())
    use_case: Mapped[str | None] = mapped_column(String())
    source: Mapped[str] = mapped_column(String(20))  # imported | typed
    meta: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[datetime] = mapped_column(default=now)
    retired: Mapped[datetime | None]
    # 0 until there is a task on it, then one more than the tasks that cover it; the lowest tier is given out first.
    tier: Mapped[int] = mapped_column(default=0, server_default="0")
    # A place in a random order: prompts of one tier are given out along it, without sorting the whole pool.
    place: Mapped[float] = mapped_column(Float(53), default=random.random)


class SetAside(Base):
    """A prompt that a checkpoint refused: it is not given to this checkpoint any more, others still get it."""

    __tablename__ = "set_aside"
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"), primary_key=True)
    checkpoint: Mapped[str] = mapped_column(String(200), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(default=now)


class Task(Base):
    """K responses to one prompt, given to one labeler once. `shown[p]` is the response at screen position p."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("ix_tasks_labeler_state", "labeler_id", "state"),
        # One vote per labeler and prompt, whatever runs at the same time.
        Index(
            "uq_tasks_live",
            "labeler_id",
            "prompt_id",
            unique=True,
            sqlite_where=text("state <> 'expired'"),
            postgresql_where=text("state <> 'expired'"),
        ),
        # Of the few that are open, those whose time is over.
        Index("ix_tasks_open", "expires", sqlite_where=text("state = 'open'"), postgresql_where=text("state = 'open'")),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(10))  # compare | rank
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"), index=True)
    labeler_id: Mapped[str] = mapped_column(ForeignKey("labelers.id"))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)  # single use
    state: Mapped[str] = mapped_column(String(10))  # open | answered | skipped | expired | identical
    shown: Mapped[list[Any]]
    guideline: Mapped[str] = mapped_column(String(40))
    propensity: Mapped[float | None]
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
    closed: Mapped[datetime | None]
    responses: Mapped[list[TaskResponse]] = relationship(order_by="TaskResponse.position", lazy="selectin")
    prompt: Mapped[Prompt] = relationship(lazy="joined")


class TaskResponse(Base):
    """One of a task's responses, in stored order."""

    __tablename__ = "task_responses"
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    checkpoint: Mapped[str | None] = mapped_column(String(200))
    sampling: Mapped[dict[str, Any]] = mapped_column(default=dict)
    finish_reason: Mapped[str | None] = mapped_column(String(20))


class Answer(Base):
    """What a labeler said of a task. Never updated: a correction is a new row that supersedes."""

    __tablename__ = "answers"
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), index=True)
    labeler_id: Mapped[str] = mapped_column(ForeignKey("labelers.id"), index=True)
    ranks: Mapped[list[Any] | None]  # of the responses in stored order; None when undone
    ratings: Mapped[list[Any] | None]
    flags: Mapped[list[Any] | None]
    all_bad: Mapped[bool] = mapped_column(default=False)
    withdrawn: Mapped[bool] = mapped_column(default=False)  # an undo: supersedes without a new ranking
    note: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float | None]  # time that the labeler took
    supersedes: Mapped[str | None] = mapped_column(ForeignKey("answers.id"), index=True, unique=True)
    created: Mapped[datetime] = mapped_column(default=now, index=True)
