"""What a consumer has given up, and what has become of it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("letter_partition", sa.Integer, nullable=False),
        sa.Column("letter_offset", sa.BigInteger, nullable=False),
        sa.Column("event_id", sa.Text),
        sa.Column("session_id", sa.Text),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("given_up_at", sa.BigInteger, nullable=False),
        sa.Column("handled", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("settled_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("consumer", "topic", "partition", "offset", name="pk_dead_letters"),
    )
