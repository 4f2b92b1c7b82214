"""What calls cost the customers of our user, and by which terms."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plan_terms",
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_plan_terms"),
    )
    op.create_table(
        "plan_charges",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("valid_from", sa.Text, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger),
        sa.Column("billed_s", sa.BigInteger),
        sa.Column("minutes_micros", sa.BigInteger),
        sa.Column("per_call_micros", sa.BigInteger, nullable=False),
        sa.Column("passed_on_micros", sa.BigInteger),
        sa.Column("called_at", sa.BigInteger, nullable=False),
        sa.Column("agent_id", sa.Text),
        sa.Column("metadata_value", sa.Text),
        sa.Column("caller_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_plan_charges"),
        sa.ForeignKeyConstraint(["terms"], ["plan_terms.digest"], name="fk_plan_charges_plan_terms"),
    )
    op.create_index("ix_plan_charges_called_at", "plan_charges", ["called_at"])
