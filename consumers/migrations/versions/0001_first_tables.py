"""The first tables, and the search in transcripts.

A step says what the tables were at its time, so it repeats what `consumers/tables.py` says today instead of using it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# A tsvector holds at most 1 MiB, and a longer text would be refused whole: 100,000 characters always fit.
_SEARCHED_CHARACTERS = 100_000


def upgrade() -> None:
    _runner()
    _billing()
    _transcripts()
    _recordings()
    if op.get_bind().dialect.name == "postgresql":
        _search_on_postgresql()
    else:
        _search_on_sqlite()


def _runner() -> None:
    op.create_table(
        "positions",
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("cluster_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("consumer", "topic", "partition", name="pk_positions"),
    )
    op.create_table(
        "sessions",
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("consumer", "session_id", name="pk_sessions"),
    )
    op.create_table(
        "revisions",
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("consumer", "session_id", "event_id", name="pk_revisions"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("caller_id", sa.Text, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,  # a number used again could make a slow relay delete what it has not published
    )
    op.create_index("ix_outbox_consumer_id", "outbox", ["consumer", "id"])


def _billing() -> None:
    op.create_table(
        "billing_entries",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("agent_id", sa.Text),
        sa.Column("caller_id", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "event_id", "type", "provider", name="pk_billing_entries"),
    )
    op.create_index("ix_billing_entries_caller_id", "billing_entries", ["caller_id"])
    op.create_index("ix_billing_entries_agent_id_received_at", "billing_entries", ["agent_id", "received_at"])


def _transcripts() -> None:
    op.create_table(
        "transcripts",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("agent_id", sa.Text),
        sa.Column("caller_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("original_status", sa.Text),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("chat_state", sa.Text, nullable=False),
        sa.Column("original_chat", sa.Text),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("function_calls_state", sa.Text, nullable=False),
        sa.Column("function_calls", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_transcripts"),
    )
    op.create_index("ix_transcripts_caller_id", "transcripts", ["caller_id"])
    op.create_index("ix_transcripts_agent_id_received_at", "transcripts", ["agent_id", "received_at"])
    op.create_table(
        "transcript_turns",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("original_role", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "position", name="pk_transcript_turns"),
        _of_transcript("transcript_turns"),
    )
    op.create_table(
        "transcript_function_calls",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("params", sa.Text),
        sa.Column("result", sa.Text),
        sa.PrimaryKeyConstraint("session_id", "position", name="pk_transcript_function_calls"),
        _of_transcript("transcript_function_calls"),
    )


def _of_transcript(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["session_id"], ["transcripts.session_id"], ondelete="CASCADE", name=f"fk_{table}_transcripts"
    )


def _recordings() -> None:
    op.create_table(
        "recordings",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("agent_id", sa.Text),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("object_stem", sa.Text, nullable=False),
        sa.Column("object", sa.Text),
        sa.Column("bytes", sa.BigInteger),
        sa.Column("sha256", sa.Text),
        sa.Column("content_type", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger, nullable=False),
        sa.Column("leased_until", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("session_id", name="pk_recordings"),
    )
    op.create_index("ix_recordings_status_next_attempt_at", "recordings", ["status", "next_attempt_at"])


def _search_on_postgresql() -> None:
    """`transcript_turns.search @@ websearch_to_tsquery('simple', ...)`: words as they are, in any language."""
    op.execute(
        "ALTER TABLE transcript_turns ADD COLUMN search tsvector"
        f" GENERATED ALWAYS AS (to_tsvector('simple', left(text, {_SEARCHED_CHARACTERS}))) STORED"
    )
    op.create_index("ix_transcript_turns_search", "transcript_turns", ["search"], postgresql_using="gin")


def _search_on_sqlite() -> None:
    """`transcript_search MATCH ...`, its rowid is that of the turn.

    The index holds no text of its own: triggers keep it in step, those that a foreign key's cascade sets off too.
    SQLite keeps the row ids of this table through a VACUUM, because it has an index; a test holds that.
    """
    op.execute(
        "CREATE VIRTUAL TABLE transcript_search USING fts5"
        "(text, content='transcript_turns', content_rowid='rowid', tokenize='unicode61 remove_diacritics 0')"
    )
    add = "INSERT INTO transcript_search (rowid, text) VALUES (new.rowid, new.text);"
    remove = "INSERT INTO transcript_search (transcript_search, rowid, text) VALUES ('delete', old.rowid, old.text);"
    for occasion, moment, effects in (
        ("added", "INSERT", add),
        ("removed", "DELETE", remove),
        ("changed", "UPDATE", remove + add),
    ):
        op.execute(f"CREATE TRIGGER transcript_turns_{occasion} AFTER {moment} ON transcript_turns BEGIN {effects} END")
