"""Ids, users and use cases of prompts as long as data sets have them.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = (
    ("prompts", "id", 100),
    ("prompts", "prompt_user", 100),
    ("prompts", "use_case", 40),
    ("tasks", "prompt_id", 100),
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        return  # it knows no lengths
    for table, column, length in COLUMNS:
        op.alter_column(table, column, type_=sa.String(), existing_type=sa.String(length))


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, column, length in COLUMNS:
        op.alter_column(table, column, type_=sa.String(length), existing_type=sa.String())
