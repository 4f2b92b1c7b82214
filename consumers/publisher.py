"""Publishing from a consumer's process: every record acknowledged within a deadline, or known not to be."""

import asyncio
from collections.abc import Sequence
from typing import cast

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.event import Headers
from schemas.partition import partition_of

# A broker that lost its leader acknowledges nothing for 10-12 s; waiting longer than a process may take to stop is
# worse than sending again: what arrives twice has the same id.
ACK_DEADLINE_S = 8.0
STOP_DEADLINE_S = 2.0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """`topic` is the name on the cluster. Of several with one `key`, none overtakes another."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Publisher:
    """Owns a producer: makes it when it is needed and makes it anew after any failure.

    After a rejected batch an idempotent producer is out of sequence for ever, and with the broker away it never gives
    up by itself. A message without an acknowledgement may have arrived nevertheless.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._one_at_a_time = asyncio.Lock()

    async def publish(self, messages: Sequence[Message]) -> list[BaseException | None]:
        """For each message: None when Kafka has acknowledged it (`acks=all`), or what went wrong. Never raises."""
        outcomes = await self.deliver(messages)
        return [outcome if isinstance(outcome, BaseException) else None for outcome in outcomes]

    async def deliver(self, messages: Sequence[Message]) -> list[RecordMetadata | BaseException]:
        """As `publish`, but an acknowledged message's outcome is where it lies."""
        async with self._one_at_a_time:
            sent: list[asyncio.Future[RecordMetadata]] = []
            failure: BaseException = TimeoutError(f"no acknowledgement within {ACK_DEADLINE_S:g} s")
            try:
                async with asyncio.timeout(ACK_DEADLINE_S):
                    producer = await self._started()
                    for message in messages:  # what was sent must be known when one of them raises
                        sent.append(await _send(producer, message))  # noqa: PERF401
                    await asyncio.wait(sent)
            except Exception as error:
                if not isinstance(error, TimeoutError):
                    failure = error
            outcomes = [_outcome(future, failure) for future in sent]
            outcomes += [failure] * (len(messages) - len(sent))
            if any(isinstance(outcome, BaseException) for outcome in outcomes):
                await self._drop()
            return outcomes

    async def stop(self) -> None:
        async with self._one_at_a_time:
            await self._drop()

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


async def _send(producer: AIOKafkaProducer, message: Message) -> asyncio.Future[RecordMetadata]:
    partition = None
    if message.key is not None:
        partition = partition_of(message.key, len(await producer.partitions_for(message.topic)))
    future = await producer.send(
        message.topic, message.value, key=message.key, partition=partition, headers=list(message.headers)
    )
    return cast("asyncio.Future[RecordMetadata]", future)


def _outcome(future: asyncio.Future[RecordMetadata], failure: BaseException) -> RecordMetadata | BaseException:
    if not future.done() or future.cancelled():
        return failure
    return future.exception() or future.result()
