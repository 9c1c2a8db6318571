"""The checkpoint that serves an alias is kept; requests for engines and options of checkpoints have their own tables.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("aliases") as batch:
        batch.add_column(sa.Column("served", sa.String(200), nullable=True))
        batch.add_column(sa.Column("served_since", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(sa.Column("fallback", sa.String(200), nullable=True))
        batch.add_column(sa.Column("note", sa.Text(), nullable=True))
    # Until now the alias's checkpoint was the one that served, but for a promotion in progress.
    op.execute("update aliases set served = checkpoint, served_since = updated")
    op.create_table(
        "wanted_engines",
        sa.Column("checkpoint", sa.String(200), nullable=False),
        sa.Column("requested_by", sa.String(200), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("checkpoint", name="pk_wanted_engines"),
    )
    op.execute(
        "insert into wanted_engines (checkpoint, requested_by, created) "
        "select checkpoint, '', min(started) from engines where state = 'wanted' group by checkpoint"
    )
    op.execute("delete from engines where state = 'wanted'")
    op.create_table(
        "engine_options",
        sa.Column("checkpoint", sa.String(200), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("checkpoint", name="pk_engine_options"),
    )
    with op.batch_alter_table("engines") as batch:
        batch.add_column(sa.Column("given_up", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column("plan", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    with op.batch_alter_table("engines") as batch:
        batch.drop_column("plan")
        batch.drop_column("given_up")
    op.drop_table("engine_options")
    op.drop_table("wanted_engines")
    with op.batch_alter_table("aliases") as batch:
        for column in ("note", "fallback", "served_since", "served"):
            batch.drop_column(column)
