"""A record batch in the making, and what everyone in it awaits."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from runtime.kafka import BATCH_BYTES
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
    """Takes records until the moment when the producer's sender takes it, and none after (`append` returns None).

    A broker gets one request at a time. What arrives while another one is under way still joins the batch that waits
    for its turn, instead of waiting for a turn of its own.
    """

    def __init__(self) -> None:
        super().__init__(BATCH_BYTES, _NO_COMPRESSION)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        # The sender has just counted the records: one more would put all that follow out of sequence.
        self.close()
        super()._set_producer_state(producer_id, producer_epoch, base_sequence)


class Batch:
    """`producer` is who has it, None while nobody does; `sent` is that producer's future of it."""

    __slots__ = ("builder", "done", "entries", "producer", "sent", "sent_at", "size")

    def __init__(self) -> None:
        self.builder = OpenBatch()
        self.done = Shared()
        self.entries: list[Entry] = []
        self.size = 0
        self.producer: AIOKafkaProducer | None = None
        self.sent: asyncio.Future[object] | None = None
        self.sent_at = 0.0


def seen(done: "asyncio.Future[Any]") -> None:
    """Somebody may have stopped waiting for it; asyncio would report its error as never retrieved."""
    if not done.cancelled():
        done.exception()
