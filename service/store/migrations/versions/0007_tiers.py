"""Prompts keep how many tasks cover them, so that the fewest are found along an index; so are tasks open for too long.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IN_USE = sa.text("source = 'imported' and retired is null")
OPEN = sa.text("state = 'open'")


def upgrade() -> None:
    op.drop_index("ix_prompts_pool", table_name="prompts")
    op.add_column("prompts", sa.Column("tier", sa.Integer(), nullable=False, server_default="0"))
    covering = "select count(*) from tasks where prompt_id = prompts.id and state in ('open', 'answered')"
    op.execute(f"update prompts set tier = 1 + ({covering}) where id in (select prompt_id from tasks)")
    op.create_index("ix_prompts_pool", "prompts", ["tier", "place"], sqlite_where=IN_USE, postgresql_where=IN_USE)
    op.create_index("ix_tasks_open", "tasks", ["expires"], sqlite_where=OPEN, postgresql_where=OPEN)


def downgrade() -> None:
    op.drop_index("ix_tasks_open", table_name="tasks")
    op.drop_index("ix_prompts_pool", table_name="prompts")
    with op.batch_alter_table("prompts") as batch:
        batch.drop_column("tier")
    op.create_index("ix_prompts_pool", "prompts", ["source", "retired", "place"])
