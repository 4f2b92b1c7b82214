"""One event on its way to a topic."""

from typing import NamedTuple

from schemas.event import Headers
from schemas.topics import Topic


class Entry(NamedTuple):
    """`partition_by` decides the partition: the caller's id, so that a caller's events share one. A namedtuple, not a
    struct: one is made for every request, and it is never encoded."""

    topic: Topic
    partition_by: bytes
    key: bytes | None
    value: bytes | None
    headers: Headers


class NotDurable(ConnectionError):
    """Kafka did not acknowledge in time. The event may still arrive: whoever sends again sends the same event id."""
