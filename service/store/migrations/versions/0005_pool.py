"""Prompts that a checkpoint refused, the random order of the pool, and labelers whose answers are left out.

Revision ID: 0005
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RANDOM = {"sqlite": "abs(random() % 9007199254740992) / 9007199254740992.0", "postgresql": "random()"}


def upgrade() -> None:
    op.create_table(
        "set_aside",
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("checkpoint", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name="fk_set_aside_prompt_id_prompts"),
        sa.PrimaryKeyConstraint("prompt_id", "checkpoint", name="pk_set_aside"),
    )
    op.add_column("labelers", sa.Column("excluded", sa.DateTime(timezone=True), nullable=True))
    op.add_column("prompts", sa.Column("place", sa.Float(53), nullable=False, server_default="0"))
    op.execute(f"update prompts set place = {RANDOM[op.get_bind().dialect.name]}")
    op.create_index("ix_prompts_place", "prompts", ["place"])
    op.create_index("ix_prompts_pool", "prompts", ["source", "retired"])


def downgrade() -> None:
    op.drop_index("ix_prompts_pool", table_name="prompts")
    op.drop_index("ix_prompts_place", table_name="prompts")
    with op.batch_alter_table("prompts") as batch:
        batch.drop_column("place")
    with op.batch_alter_table("labelers") as batch:
        batch.drop_column("excluded")
    op.drop_table("set_aside")
