"""Events that a consumer could not handle: kept whole, with the reason, while the partition goes on."""

import asyncio

import msgspec
from aiokafka.errors import MessageSizeTooLargeError

from consumers.database import clean_text
from consumers.letter_book import Letter
from consumers.parcels import Message
from consumers.publisher import Publisher
from runtime.clock import Clock
from runtime.metrics import DEAD_LETTERS
from runtime.settings import Settings
from schemas.dead_letter import (
    APPENDED,
    BYTES,
    CONSUMER,
    ERROR,
    HEADERS,
    MESSAGE,
    OFFSET,
    PARTITION,
    SHA256,
    TIME,
    TOPIC,
)
from schemas.event import MAX_SESSION_ID_CHARACTERS, Record, rfc3339
from schemas.rejected import HEAD_BYTES, sha256
from schemas.topics import dead_letters

# What an error says may quote the event. It stays with the event, and is long enough to understand it by.
MAX_MESSAGE_BYTES = 1024


class DeadLetters:
    """`one_at_a_time` is held by who gives an event up: two lanes must not both give up the last one that may be."""

    def __init__(self, settings: Settings, consumer: str, publisher: Publisher, clock: Clock) -> None:
        self._consumer = consumer
        self._topic = dead_letters(consumer).named(settings.topic_prefix)
        self._publisher = publisher
        self._clock = clock
        self.one_at_a_time = asyncio.Lock()

    async def publish(self, record: Record, error: BaseException) -> Letter | BaseException:
        """The letter, when Kafka has acknowledged it, or what went wrong: then the record's partition must wait."""
        now = self._clock()
        letter = self._message(record, error, now)
        (outcome,) = await self._publisher.deliver([letter])
        if isinstance(outcome, MessageSizeTooLargeError):
            (outcome,) = await self._publisher.deliver([_head_of(letter, record)])
        if isinstance(outcome, BaseException):
            return outcome
        if outcome.offset < 0:  # a broker that takes it for a repetition of an older batch may have forgotten where
            return LookupError("Kafka has the dead letter and doesn't say where")
        DEAD_LETTERS.labels(self._consumer).inc()
        return Letter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            letter_partition=outcome.partition,
            letter_offset=outcome.offset,
            event_id=_storable(record.header("ce_id")),
            session_id=_storable(record.header("ce_subject")),
            error=type(error).__name__,
            given_up_at=now,
        )

    def _message(self, record: Record, error: BaseException, now: int) -> Message:
        """The record's own bytes and headers, and after them ours."""
        said = str(error).encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore").encode()
        reason = [
            (CONSUMER, self._consumer.encode()),
            (ERROR, type(error).__name__.encode()),
            (MESSAGE, said),
            (TOPIC, record.topic.encode()),
            (PARTITION, str(record.partition).encode()),
            (OFFSET, str(record.offset).encode()),
            (APPENDED, str(record.appended_ms).encode()),
            (TIME, rfc3339(now).encode()),
        ]
        return Message(topic=self._topic, key=record.key, value=record.value, headers=[*record.headers, *reason])


def _head_of(letter: Message, record: Record) -> Message:
    """Of an event that another program has compressed, and that is too large for us. It lies in its topic, whole."""
    value = record.value or b""
    ours = [*letter.headers[len(record.headers) :], (BYTES, str(len(value)).encode()), (SHA256, sha256(value).encode())]
    small = sum(len(it or b"") for it in (record.key, *(it for _, it in record.headers))) <= HEAD_BYTES
    return Message(
        topic=letter.topic,
        key=record.key if small else None,
        value=value[:HEAD_BYTES],
        headers=[*(record.headers if small else ()), *ours],
    )


def is_head(letter: Record) -> bool:
    """Whether it has only the first bytes of its event."""
    return [name for name, _ in letter.headers[-2:]] == [BYTES, SHA256]


def completed(head: Record, event: Record) -> Record | None:
    """The letter with all of its event, as that lies in its topic. None when another one lies there."""
    if sha256(event.value or b"") != head.header(SHA256):
        return None
    ours = head.headers[-len(HEADERS) - 2 : -2]
    return msgspec.structs.replace(head, key=event.key, value=event.value, headers=(*event.headers, *ours))


def event_of(letter: Record) -> Record | None:
    """The event as it lay in its topic: its bytes, its headers, its place and its time. None for what is no letter.

    The time matters: revisions of a call are ordered by it, and a redriven one must not differ from one that is read
    again from the beginning.
    """
    headers = list(letter.headers[:-2] if is_head(letter) else letter.headers)
    ours: dict[str, str] = {}
    while headers and headers[-1][0] in HEADERS and headers[-1][0] not in ours:
        name, value = headers.pop()
        ours[name] = value.decode(errors="replace")
    try:
        return msgspec.structs.replace(
            letter,
            topic=ours[TOPIC],
            partition=int(ours[PARTITION]),
            offset=int(ours[OFFSET]),
            appended_ms=int(ours[APPENDED]),
            headers=headers,
        )
    except (KeyError, ValueError):
        return None


def _storable(text: str | None) -> str | None:
    """What a foreign record says may be of any length and hold anything."""
    return None if text is None else clean_text(text[:MAX_SESSION_ID_CHARACTERS])
