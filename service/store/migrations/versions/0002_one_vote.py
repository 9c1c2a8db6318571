"""One vote per labeler and prompt, kept by the database.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LIVE = sa.text("state <> 'expired'")


def upgrade() -> None:
    op.create_index(
        "uq_tasks_live",
        "tasks",
        ["labeler_id", "prompt_id"],
        unique=True,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index("ix_answers_supersedes", "answers", ["supersedes"], unique=True)


def downgrade() -> None:
    op.drop_index("ix_answers_supersedes", table_name="answers")
    op.drop_index("uq_tasks_live", table_name="tasks")
