"""Alembic environment: migrates over the connection that `migrating.migrate` passes, within its transaction."""

from __future__ import annotations

from alembic import context

from service.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    on_version_apply=[lambda **_: context.config.attributes.get("advance", lambda: None)()],
)
with context.begin_transaction():
    context.run_migrations()
