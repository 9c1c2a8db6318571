"""Prompts in use are given out along one index: with an index for each half of it, SQLite sorted the whole pool.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_prompts_place", table_name="prompts")
    op.drop_index("ix_prompts_pool", table_name="prompts")
    op.create_index("ix_prompts_pool", "prompts", ["source", "retired", "place"])


def downgrade() -> None:
    op.drop_index("ix_prompts_pool", table_name="prompts")
    op.create_index("ix_prompts_pool", "prompts", ["source", "retired"])
    op.create_index("ix_prompts_place", "prompts", ["place"])
