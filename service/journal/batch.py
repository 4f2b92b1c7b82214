"""A record batch in the making, and what everyone in it awaits."""

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from runtime.kafka import BATCH_BYTES
from schemas.event import Headers
from schemas.topics import Topic
from service.journal.entry import Entry

_NO_COMPRESSION = 0  # in the producer it would run on the event loop


class Shared(asyncio.Future[None]):
    """An outcome that many await, each for itself. Make it with the running loop.

    Whoever goes away must not take it from the others, so it can't be cancelled: a task that is cancelled meanwhile
    ends when the outcome is there. A `shield` for each costs about as much as the rest of a publication.
    """

    def __init__(self) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.add_done_callback(seen)

    def cancel(self, msg: Any = None) -> bool:
        return False


class OpenBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka has no types
    """Takes records until the moment when the producer's sender takes it, and none after.

    A broker gets one request at a time. What arrives while another one is under way still joins the batch that waits
    for its turn, instead of waiting for a turn of its own.
    """

    def __init__(self) -> None:
        super().__init__(BATCH_BYTES, _NO_COMPRESSION)

    def add(self, entry: Entry) -> bool:
        """Whether it took it: it does not when it is full or closed. One event always fits into an empty batch, because
        the size of an event is checked before."""
        taken = self.append(timestamp=None, key=entry.key, value=entry.value, headers=entry.headers)
        return taken is not None

    def records(self) -> Iterator[tuple[bytes | None, bytes | None, Headers]]:
        """Key, value and headers of what it holds; it takes nothing more. A producer that has it may still send it."""
        self.close()
        encoded = self._buffer
        if encoded is None:  # not yet taken by the sender, which writes the head again, with what it has to say
            encoded = self._builder.build()
        batch = MemoryRecords(bytes(encoded)).next_batch()
        return ((record.key, record.value, record.headers) for record in batch or ())

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        # The sender has just counted the records: one more would put all that follow out of sequence.
        self.close()
        super()._set_producer_state(producer_id, producer_epoch, base_sequence)


class Batch:
    """`producer` is who has it, None while nobody does; `sent` is that producer's future of it.

    Of an event nothing is kept but its bytes in the batch. To keep the event, too, would double the cost of publishing
    it: thousands are under way, and each is a dozen objects for the collector and the caches.
    """

    __slots__ = ("_elsewhere", "builder", "count", "done", "producer", "sent", "sent_at", "size")

    def __init__(self) -> None:
        self.builder = OpenBatch()
        self.done = Shared()
        self.count = 0
        self.size = 0
        self.producer: AIOKafkaProducer | None = None
        self.sent: asyncio.Future[object] | None = None
        self.sent_at = 0.0
        self._elsewhere: dict[int, bytes] = {}  # place in the batch -> what decides the partition, if not the key

    def add(self, entry: Entry) -> bool:
        """Whether it took it."""
        if not self.builder.add(entry):
            return False
        if entry.partition_by != entry.key:
            self._elsewhere[self.count] = entry.partition_by
        self.count += 1
        self.size += entry.size
        return True

    def entries(self, topic: Topic) -> list[Entry]:
        """What it holds, as it came; it takes nothing more. For when Kafka does not take it."""
        return [
            Entry(topic, self._elsewhere.get(place, key or b""), key, value, headers)
            for place, (key, value, headers) in enumerate(self.builder.records())
        ]


def seen(done: "asyncio.Future[Any]") -> None:
    """Somebody may have stopped waiting for it; asyncio would report its error as never retrieved."""
    if not done.cancelled():
        done.exception()
