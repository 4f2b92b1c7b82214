"""Derived events that were posted together share a row of the outbox. Those that wait are carried over, in their order.

Their new rows have numbers above the old ones: a relay of the version before, which may be about to delete what it has
published, must not hit any of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# What is packed of an event, in this order.
_BEFORE = {"topic": "", "caller_id": "", "event_type": "", "event_id": "", "time": 0, "session_id": "", "value": b""}

# Read at once, and at most in a row.
_EVENTS = 500
_BYTES = 1024 * 1024

_outbox = sa.table("outbox", *map(sa.column, ("id", "consumer", "events", "packed", *_BEFORE)))


def upgrade() -> None:
    op.add_column("outbox", sa.Column("events", sa.Integer, nullable=False, server_default="0"))
    op.add_column("outbox", sa.Column("packed", sa.LargeBinary, nullable=False, server_default=""))
    if op.get_bind().dialect.name == "postgresql":
        # It stays for some milliseconds; to compress it would take longer than to write it.
        op.execute("ALTER TABLE outbox ALTER COLUMN packed SET STORAGE EXTERNAL")
    _carry_over()
    for name in _BEFORE:
        op.drop_column("outbox", name)


def _carry_over() -> None:
    tx = op.get_bind()
    oldest = sa.select(_outbox).where(_outbox.c.events == 0).order_by(_outbox.c.id).limit(_EVENTS)
    while found := tx.execute(oldest).all():
        by_consumer: dict[str, list[tuple[Any, ...]]] = {}
        for row in found:
            by_consumer.setdefault(row.consumer, []).append(tuple(getattr(row, name) for name in _BEFORE))
        op.bulk_insert(
            _outbox,
            [
                {"consumer": consumer, "events": len(some), "packed": msgspec.msgpack.encode(some), **_BEFORE}
                for consumer, events in by_consumer.items()
                for some in _by_row(events)
            ],
        )
        tx.execute(sa.delete(_outbox).where(_outbox.c.events == 0, _outbox.c.id <= found[-1].id))


def _by_row(events: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    start = size = 0
    for place, event in enumerate(events):
        if place > start and size + len(event[-1]) > _BYTES:
            yield events[start:place]
            start, size = place, 0
        size += len(event[-1])
    yield events[start:]
