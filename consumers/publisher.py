"""Publishing from a consumer's process: every record acknowledged within a deadline, or known not to be."""

import asyncio
from collections.abc import Sequence
from itertools import count

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from consumers.parcels import Message, Packer, Parcel
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings

# A broker that lost its leader acknowledges nothing for 10-12 s; waiting longer than a process may take to stop is
# worse than sending again: what arrives twice has the same id.
ACK_DEADLINE_S = 8.0
STOP_DEADLINE_S = 2.0


class Publisher:
    """Owns a producer: makes it when it is needed and makes it anew after any failure.

    After a rejected batch an idempotent producer is out of sequence for ever, and with the broker away it never gives
    up by itself. A message without an acknowledgement may have arrived nevertheless.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._one_at_a_time = asyncio.Lock()
        self._turns = count()

    async def publish(self, messages: Sequence[Message]) -> list[BaseException | None]:
        """For each message: None when Kafka has acknowledged it (`acks=all`), or what went wrong. Never raises."""
        outcomes: list[BaseException | None] = [None] * len(messages)
        for places, outcome in await self._shared_outcomes(messages):
            if isinstance(outcome, BaseException):
                for place in places:
                    outcomes[place] = outcome
        return outcomes

    async def deliver(self, messages: Sequence[Message]) -> list[RecordMetadata | BaseException]:
        """As `publish`, but an acknowledged message's outcome is where it lies. Its offset is negative when Kafka
        doesn't say: a broker that takes a batch for a repetition of an older one may have forgotten where that lies."""
        outcomes: dict[int, RecordMetadata | BaseException] = {}
        for places, outcome in await self._shared_outcomes(messages):
            for number, place in enumerate(places):
                outcomes[place] = outcome if isinstance(outcome, BaseException) else _behind(outcome, number)
        return [outcomes[place] for place in range(len(messages))]

    async def stop(self) -> None:
        async with self._one_at_a_time:
            await self._drop()

    async def _shared_outcomes(
        self, messages: Sequence[Message]
    ) -> list[tuple[Sequence[int], RecordMetadata | BaseException]]:
        """The places of messages that share an outcome: where the first of them lies, or what went wrong."""
        async with self._one_at_a_time:
            parcels: list[Parcel] = []
            packed = 0
            failure: BaseException = TimeoutError(f"no acknowledgement within {ACK_DEADLINE_S:g} s")
            try:
                async with asyncio.timeout(ACK_DEADLINE_S):
                    producer = await self._started()
                    packer = Packer(producer, self._turns)
                    try:
                        await packer.pack(messages)
                    except Exception as error:  # what comes before that message goes out nevertheless
                        failure = error
                    parcels, packed = packer.parcels, packer.packed
                    # One that acknowledges nothing holds up its own parcels, and none of another partition.
                    sending = [_send_in_order(producer, some) for some in packer.by_partition()]
                    failures = await asyncio.gather(*sending, return_exceptions=True)
                    failure = next(filter(None, failures), failure)
                    if sent := [parcel.sent for parcel in parcels if parcel.sent]:
                        await asyncio.wait(sent)
            except Exception as error:
                if not isinstance(error, TimeoutError):
                    failure = error
            outcomes: list[tuple[Sequence[int], RecordMetadata | BaseException]] = [
                (parcel.places, parcel.outcome or failure) for parcel in parcels
            ]
            if packed < len(messages):
                outcomes.append((range(packed, len(messages)), failure))
            if any(isinstance(outcome, BaseException) for _, outcome in outcomes):
                await self._drop()
            return outcomes

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = make_producer(self._settings)
            self._producer = producer  # before it has started: a deadline may pass meanwhile, and it must be stopped
            await start_within(producer, ACK_DEADLINE_S)
        return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_within(producer, STOP_DEADLINE_S)


async def _send_in_order(producer: AIOKafkaProducer, parcels: Sequence[Parcel]) -> None:
    """Returns when the producer has all of them. Raises what aiokafka raises for one that it doesn't take."""
    for parcel in parcels:
        await parcel.send(producer)


def _behind(first: RecordMetadata, number: int) -> RecordMetadata:
    return first._replace(offset=first.offset + number) if first.offset >= 0 else first
