"""Derived events: written with the effects that they tell of, published after the commit."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from consumers.tables import outbox
from schemas.topics import MAX_MESSAGE_BYTES, Topic

# One that the topic refuses could never leave and would hold up all behind it. The rest is for headers and framing.
MAX_VALUE_BYTES = MAX_MESSAGE_BYTES - 128 * 1024


class OutboxEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`event_id` must follow from the event that caused it: a rebuild publishes it again, under the same id.

    `caller_id` becomes the key; `time` is in microseconds since the epoch; `value` is the JSON.
    """

    topic: Topic
    caller_id: str
    event_type: str
    event_id: str
    time: int
    session_id: str
    value: bytes


def post(tx: Connection, consumer: str, events: Sequence[OutboxEvent]) -> None:
    """To be published, in this order, once `tx` has committed. Raises `ValueError` for one that Kafka can't take."""
    for event in events:
        if len(event.value) > MAX_VALUE_BYTES:
            raise ValueError(f"{event.event_type} {event.event_id} has {len(event.value)} bytes, too many for a topic")
    rows = [{**msgspec.structs.asdict(event), "consumer": consumer, "topic": event.topic.name} for event in events]
    if rows:
        tx.execute(outbox.insert(), rows)
