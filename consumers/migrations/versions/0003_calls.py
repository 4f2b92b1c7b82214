"""Whole calls, what the provider was asked for, and which bodies no webhook brought."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WHOLE_CALLS = """
CREATE VIEW calls AS
SELECT
    l.session_id, l.caller_id, l.agent_id, l.direction, l.decided_by, l.prefetched_at, l.ended_at, l.recovered,
    l.started_at, l.duration_ms, l.status, l.original_status, l.first_heard_at,
    (SELECT CAST(sum(b.amount_micros) AS BIGINT) FROM billing_entries b WHERE b.session_id = l.session_id)
        AS billed_micros,
    t.chat_state AS transcript,
    r.status AS recording_status,
    r.object AS recording
FROM call_log l
LEFT JOIN transcripts t ON t.session_id = l.session_id
LEFT JOIN recordings r ON r.session_id = l.session_id
"""


def upgrade() -> None:
    with op.batch_alter_table("revisions") as table:
        table.add_column(sa.Column("recovered", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "call_log",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("caller_id", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("prefetched_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("recovered", sa.Boolean, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("status", sa.Text),
        sa.Column("original_status", sa.Text),
        sa.Column("first_heard_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_call_log"),
    )
    op.create_index("ix_call_log_caller_id", "call_log", ["caller_id"])
    op.create_index("ix_call_log_first_heard_at", "call_log", ["first_heard_at"])
    op.create_index("ix_call_log_agent_id_first_heard_at", "call_log", ["agent_id", "first_heard_at"])
    op.create_index("ix_call_log_ended_at", "call_log", ["ended_at"])
    endless = sa.text("ended_at IS NULL")
    columns = ["prefetched_at", "session_id"]
    op.create_index("ix_call_log_endless", "call_log", columns, sqlite_where=endless, postgresql_where=endless)
    op.execute(_WHOLE_CALLS)
    op.create_table(
        "reconciliations",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_reconciliations"),
    )
    op.create_table(
        "reconciled",
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("what", name="pk_reconciled"),
    )
