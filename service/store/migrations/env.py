"""Alembic environment: migrates over the connection that `migrating.migrate` passes, within its transaction."""

from __future__ import annotations

from typing import Any

from alembic import context

from service.store.models import Base


def applied(*_: Any, **__: Any) -> None:
    """Tell `migrating.migrate` that one more migration is done."""
    context.config.attributes.get("advance", lambda: None)()


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    on_version_apply=applied,
)
with context.begin_transaction():
    context.run_migrations()
