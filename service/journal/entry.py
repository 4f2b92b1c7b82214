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

    @property
    def size(self) -> int:
        """Bytes, about: what the limits count."""
        return len(self.value or b"") + len(self.key or b"") + 256


class NotDurable(ConnectionError):
    """Neither Kafka nor the spool took it. It may still arrive: whoever sends again sends the same event id."""
