"""Where in the talk a function call stands, as far as the chat tells."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("transcript_function_calls", sa.Column("turns_before", sa.Integer))
