"""Every table. Money in micro-credits, durations in milliseconds, times in microseconds since the epoch: integers."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    false,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
    }
)

views = MetaData()  # made by migrations; no table is to be made of them

# SQLite numbers rows by themselves only in a column of exactly this type.
_Serial = BigInteger().with_variant(Integer, "sqlite")


class Words(TypeDecorator[str | Sequence[int]]):
    """The words of a call as `consumers.search.indexed` puts them: text in SQLite, numbers in PostgreSQL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(Integer) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: str | Sequence[int] | None, dialect: Dialect) -> str | list[int]:
        return value if isinstance(value, str) else list(value or ())


# Where a consumer is: the next offset that it has not seen, advanced in the transaction of the effects.
positions = Table(
    "positions",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("cluster_id", Text, nullable=False),
)

# One row a session and consumer. Writing it locks the session: a revision may arrive in another partition, and so in
# another process, when the identity of the caller changed between the two bodies.
sessions = Table(
    "sessions",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
)

# Every body of a session that a consumer has seen, as far as it matters to it: which one counts depends on all of them.
revisions = Table(
    "revisions",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("received_at", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("recovered", Boolean, nullable=False, server_default=false()),
)

# Derived events, written with the effects that they tell of and published after the commit.
outbox = Table(
    "outbox",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("consumer", Text, nullable=False),
    Column("events", Integer, nullable=False),
    Column("packed", LargeBinary, nullable=False),
    Index(None, "consumer", "id"),
    sqlite_autoincrement=True,  # a number used again could make a slow relay delete what it has not published
)

# The events that a consumer has given up, by where they lie; their bytes and the reason lie in its dead letters, at
# `letter_partition` and `letter_offset`. `handled`: how many events the consumer had been through by then, all
# partitions together. `outcome` is null until somebody has decided: redriven or discarded.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("letter_partition", Integer, nullable=False),
    Column("letter_offset", BigInteger, nullable=False),
    Column("event_id", Text),
    Column("session_id", Text),
    Column("error", Text, nullable=False),
    Column("given_up_at", BigInteger, nullable=False),
    Column("handled", BigInteger, nullable=False),
    Column("outcome", Text),
    Column("settled_at", BigInteger),
)

_ENDLESS = text("ended_at IS NULL")
_WHERE_ENDLESS: dict[str, Any] = {"sqlite_where": _ENDLESS, "postgresql_where": _ENDLESS}

# One row a session: what its prefetch and the bodies of its end say. `ended_at` is when the first body was received;
# `recovered` says that no webhook brought one.
call_log = Table(
    "call_log",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("caller_id", Text, nullable=False),
    Column("agent_id", Text),
    Column("direction", Text, nullable=False),
    Column("decided_by", Text),
    Column("prefetched_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("recovered", Boolean, nullable=False),
    Column("started_at", BigInteger),
    Column("duration_ms", BigInteger),
    Column("status", Text),
    Column("original_status", Text),
    Column("first_heard_at", BigInteger, nullable=False),
    Index(None, "caller_id"),
    Index(None, "first_heard_at"),
    Index(None, "agent_id", "first_heard_at"),
    Index(None, "ended_at"),
    Index("ix_call_log_endless", "prefetched_at", "session_id", **_WHERE_ENDLESS),
)

# A view: the log of calls, and what the other books have of each; null where they have nothing (yet).
calls = Table(
    "calls",
    views,
    *(Column(column.name, column.type, primary_key=column.primary_key) for column in call_log.columns),
    Column("billed_micros", BigInteger),
    Column("transcript", Text),
    Column("recording_status", Text),
    Column("recording", Text),
)

# Calls that the provider was asked for, how often, when it last was, and what it said then.
reconciliations = Table(
    "reconciliations",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("asked", Integer, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("said", Text, nullable=False),
)

# Until when the provider's list of calls has been read.
reconciled = Table(
    "reconciled",
    metadata,
    Column("what", Text, primary_key=True),
    Column("until", BigInteger, nullable=False),
)

# The ledger: what each event changed on the bill of its call, by type and provider.
billing_entries = Table(
    "billing_entries",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("amount_micros", BigInteger, nullable=False),
    Column("agent_id", Text),
    Column("caller_id", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Index(None, "caller_id"),
    Index(None, "agent_id", "received_at"),
)

# The terms by which calls were charged, by digest: a bill keeps its terms, whatever becomes of the file of plans.
plan_terms = Table(
    "plan_terms",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("terms", Text, nullable=False),
)

# What a call costs the customer of our user, one row a call that a plan is for. Amounts are in millionths of the plan's
# currency, and null while they are unknown.
plan_charges = Table(
    "plan_charges",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("valid_from", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("amount_micros", BigInteger),
    Column("billed_s", BigInteger),
    Column("minutes_micros", BigInteger),
    Column("per_call_micros", BigInteger, nullable=False),
    Column("passed_on_micros", BigInteger),
    Column("called_at", BigInteger, nullable=False),
    Column("agent_id", Text),
    Column("metadata_value", Text),
    Column("caller_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["terms"], ["plan_terms.digest"], name="fk_plan_charges_plan_terms"),
    Index(None, "called_at"),
)

# One row a call, with all that was said in it and all functions that were called, as JSON: `said` is an array of texts,
# `speakers` has the role and the original role of each, `called` is an array of objects. `words` is for the search.
transcripts = Table(
    "transcripts",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("agent_id", Text),
    Column("caller_id", Text, nullable=False),
    Column("status", Text),
    Column("original_status", Text),
    Column("started_at", BigInteger),
    Column("duration_ms", BigInteger),
    Column("chat_state", Text, nullable=False),
    Column("original_chat", Text),
    Column("turns", Integer, nullable=False),
    Column("function_calls_state", Text, nullable=False),
    Column("function_calls", Integer, nullable=False),
    Column("said", Text, nullable=False, server_default="[]"),
    Column("speakers", Text, nullable=False, server_default="[]"),
    Column("called", Text, nullable=False, server_default="[]"),
    Column("words", Words, nullable=False),
    Index(None, "received_at"),
    Index(None, "caller_id"),
    Index(None, "agent_id", "received_at"),
)

# Views: the turns and the function calls of `transcripts`, a row each.
transcript_turns = Table(
    "transcript_turns",
    views,
    Column("session_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("role", Text, nullable=False),
    Column("original_role", Text),
    Column("text", Text, nullable=False),
)

transcript_function_calls = Table(
    "transcript_function_calls",
    views,
    Column("session_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("params", Text),
    Column("result", Text),
    Column("turns_before", Integer),
)

# The recordings' work and its outcome: pending (due at `next_attempt_at`), stored, failed (the budget is spent),
# refused (the address is not allowed). `leased_until` is the time until which a worker has the row for itself.
recordings = Table(
    "recordings",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("agent_id", Text),
    Column("caller", Text, nullable=False),
    Column("object_stem", Text, nullable=False),
    Column("object", Text),
    Column("bytes", BigInteger),
    Column("sha256", Text),
    Column("content_type", Text),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", BigInteger, nullable=False),
    Column("leased_until", BigInteger, nullable=False),
    Column("error", Text),
    Index(None, "status", "next_attempt_at"),
)
