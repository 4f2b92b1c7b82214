"""Messages as Kafka takes them: those of a partition share a record batch and its acknowledgement."""

import asyncio
from collections.abc import Iterator, Sequence

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from schemas.event import Headers
from schemas.partition import partition_of
from schemas.topics import MAX_MESSAGE_BYTES

# Of a message. The service's producer keeps 64 KiB aside, for what follows from its events: a dead letter is one of
# them with more headers. What is left is for the batch's own head, and for what can't be compressed: it grows.
LARGEST_BYTES = MAX_MESSAGE_BYTES - 1024

Partition = tuple[str, int]  # of a topic, by its name on the cluster


# Before the loop may do something else: some milliseconds.
PACKED_AT_ONCE = 500


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """`topic` is the name on the cluster. Of several with one `key`, none overtakes another."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Parcel:
    """A record batch `to` a partition, and the `places` of its messages among all that are packed with them."""

    __slots__ = ("_builder", "places", "sent", "to")

    def __init__(self, to: Partition, builder: BatchBuilder) -> None:
        self.to = to
        self._builder = builder
        self.places: list[int] = []
        self.sent: asyncio.Future[RecordMetadata] | None = None

    def add(self, place: int, message: Message) -> bool:
        """Whether it took it: a full one does not, an empty one takes any size.

        Raises `MessageSizeTooLargeError` for one of more than `LARGEST_BYTES`, which no topic takes.
        """
        headers = list(message.headers)
        taken = self._builder.append(timestamp=None, key=message.key, value=message.value, headers=headers)
        if taken is None:
            return False
        if taken.size > LARGEST_BYTES:
            raise MessageSizeTooLargeError(f"a message has {taken.size} bytes, and a topic takes {LARGEST_BYTES}")
        self.places.append(place)
        return True

    async def send(self, producer: AIOKafkaProducer) -> None:
        """Returns when the producer has it in its queue, and has taken from there what came before it."""
        self._builder.close()
        topic, partition = self.to
        self.sent = await producer.send_batch(self._builder, topic, partition=partition)

    @property
    def outcome(self) -> RecordMetadata | BaseException | None:
        """Where its first message lies, or what Kafka said; None as long as nobody knows."""
        if self.sent is None or not self.sent.done() or self.sent.cancelled():
            return None
        return self.sent.exception() or self.sent.result()


class Packer:
    """Puts messages into parcels. Those of one partition come in the order of their messages.

    aiokafka's `send` makes a coroutine and a future of each message, and looks at its size and partition once more.
    `turns` are numbers that never come again: one without a key goes to another partition each time.
    """

    def __init__(self, producer: AIOKafkaProducer, turns: Iterator[int]) -> None:
        self._producer = producer
        self._partitions: dict[str, int] = {}  # how many a topic has
        self._open: dict[Partition, Parcel] = {}
        self._turns = turns
        self.parcels: list[Parcel] = []
        self.packed = 0  # messages

    async def pack(self, messages: Sequence[Message]) -> None:
        """Raises as `Parcel.add`, and what aiokafka raises for a topic that it doesn't find. The messages before that
        one are in parcels then."""
        for message in messages:
            partitions = self._partitions.get(message.topic) or await self._count(message.topic)
            self._put(message, (message.topic, self._partition(message.key, partitions)))
            self.packed += 1
            if self.packed % PACKED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def by_partition(self) -> list[list[Parcel]]:
        """The parcels of each, in order."""
        found: dict[Partition, list[Parcel]] = {}
        for parcel in self.parcels:
            found.setdefault(parcel.to, []).append(parcel)
        return list(found.values())

    async def _count(self, topic: str) -> int:
        found = self._partitions[topic] = len(await self._producer.partitions_for(topic))
        return found

    def _partition(self, key: bytes | None, partitions: int) -> int:
        """Without a key any will do, but not the same each time: it may have no leader."""
        return next(self._turns) % partitions if key is None else partition_of(key, partitions)

    def _put(self, message: Message, to: Partition) -> None:
        parcel = self._open.get(to)
        if parcel is None or not parcel.add(self.packed, message):
            parcel = Parcel(to, self._producer.create_batch())
            parcel.add(self.packed, message)
            self._open[to] = parcel
            self.parcels.append(parcel)
