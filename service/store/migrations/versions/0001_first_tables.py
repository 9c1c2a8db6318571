"""first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("checkpoint", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_aliases"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index("ix_audit_time", ["time"], unique=False)

    op.create_table(
        "engines",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("checkpoint", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("url", sa.String(length=500), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("supervisor", sa.String(length=200), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_engines"),
    )
    with op.batch_alter_table("engines", schema=None) as batch_op:
        batch_op.create_index("ix_engines_checkpoint", ["checkpoint"], unique=False)

    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=12), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("secret_hash", name="uq_keys_secret_hash"),
    )
    op.create_table(
        "labelers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("pseudonym", sa.String(length=40), nullable=False),
        sa.Column("labeler_group", sa.String(length=40), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_labelers"),
        sa.UniqueConstraint("name", name="uq_labelers_name"),
        sa.UniqueConstraint("pseudonym", name="uq_labelers_pseudonym"),
        sa.UniqueConstraint("token_hash", name="uq_labelers_token_hash"),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("prompt_user", sa.String(length=100), nullable=True),
        sa.Column("use_case", sa.String(length=40), nullable=True),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("meta", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_prompts"),
    )
    op.create_table(
        "labeler_sessions",
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("labeler_id", sa.String(length=32), nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["labeler_id"], ["labelers.id"], name="fk_labeler_sessions_labeler_id_labelers"),
        sa.PrimaryKeyConstraint("secret_hash", name="pk_labeler_sessions"),
    )
    with op.batch_alter_table("labeler_sessions", schema=None) as batch_op:
        batch_op.create_index("ix_labeler_sessions_labeler_id", ["labeler_id"], unique=False)

    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("prompt_id", sa.String(length=100), nullable=False),
        sa.Column("labeler_id", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("guideline", sa.String(length=40), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["labeler_id"], ["labelers.id"], name="fk_tasks_labeler_id_labelers"),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name="fk_tasks_prompt_id_prompts"),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint("token_hash", name="uq_tasks_token_hash"),
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index("ix_tasks_labeler_state", ["labeler_id", "state"], unique=False)
        batch_op.create_index("ix_tasks_prompt_id", ["prompt_id"], unique=False)

    op.create_table(
        "answers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("labeler_id", sa.String(length=32), nullable=False),
        sa.Column("ranks", sa.JSON(), nullable=True),
        sa.Column("ratings", sa.JSON(), nullable=True),
        sa.Column("flags", sa.JSON(), nullable=True),
        sa.Column("all_bad", sa.Boolean(), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("supersedes", sa.String(length=32), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["labeler_id"], ["labelers.id"], name="fk_answers_labeler_id_labelers"),
        sa.ForeignKeyConstraint(["supersedes"], ["answers.id"], name="fk_answers_supersedes_answers"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_answers_task_id_tasks"),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
    )
    with op.batch_alter_table("answers", schema=None) as batch_op:
        batch_op.create_index("ix_answers_created", ["created"], unique=False)
        batch_op.create_index("ix_answers_labeler_id", ["labeler_id"], unique=False)
        batch_op.create_index("ix_answers_task_id", ["task_id"], unique=False)

    op.create_table(
        "task_responses",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.String(length=200), nullable=True),
        sa.Column("sampling", sa.JSON(), nullable=False),
        sa.Column("finish_reason", sa.String(length=20), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_task_responses_task_id_tasks"),
        sa.PrimaryKeyConstraint("task_id", "position", name="pk_task_responses"),
    )


def downgrade() -> None:
    op.drop_table("task_responses")
    with op.batch_alter_table("answers", schema=None) as batch_op:
        batch_op.drop_index("ix_answers_task_id")
        batch_op.drop_index("ix_answers_labeler_id")
        batch_op.drop_index("ix_answers_created")

    op.drop_table("answers")
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index("ix_tasks_prompt_id")
        batch_op.drop_index("ix_tasks_labeler_state")

    op.drop_table("tasks")
    with op.batch_alter_table("labeler_sessions", schema=None) as batch_op:
        batch_op.drop_index("ix_labeler_sessions_labeler_id")

    op.drop_table("labeler_sessions")
    op.drop_table("prompts")
    op.drop_table("labelers")
    op.drop_table("keys")
    with op.batch_alter_table("engines", schema=None) as batch_op:
        batch_op.drop_index("ix_engines_checkpoint")

    op.drop_table("engines")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_time")

    op.drop_table("audit")
    op.drop_table("aliases")
