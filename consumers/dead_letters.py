"""Events that a consumer could not handle: kept whole, with the reason, while the partition goes on."""

from consumers.publisher import Message, Publisher
from runtime.clock import Clock
from runtime.metrics import DEAD_LETTERS
from runtime.settings import Settings
from schemas.event import Record, rfc3339
from schemas.topics import dead_letters

# What an error says may quote the event. It stays with the event, and is long enough to understand it by.
MAX_MESSAGE_BYTES = 1024

CONSUMER = "dead_letter_consumer"
ERROR = "dead_letter_error"
MESSAGE = "dead_letter_message"
TOPIC = "dead_letter_topic"
PARTITION = "dead_letter_partition"
OFFSET = "dead_letter_offset"
TIME = "dead_letter_time"


class DeadLetters:
    def __init__(self, settings: Settings, consumer: str, publisher: Publisher, clock: Clock) -> None:
        self._consumer = consumer
        self._topic = dead_letters(consumer).named(settings.topic_prefix)
        self._publisher = publisher
        self._clock = clock

    async def publish(self, record: Record, error: BaseException) -> BaseException | None:
        """None when Kafka has acknowledged it, or what went wrong: then the record's partition must wait."""
        (failure,) = await self._publisher.publish([self._letter(record, error)])
        if failure is None:
            DEAD_LETTERS.labels(self._consumer).inc()
        return failure

    def _letter(self, record: Record, error: BaseException) -> Message:
        """The record's own bytes and headers, and after them ours."""
        said = str(error).encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore").encode()
        reason = [
            (CONSUMER, self._consumer.encode()),
            (ERROR, type(error).__name__.encode()),
            (MESSAGE, said),
            (TOPIC, record.topic.encode()),
            (PARTITION, str(record.partition).encode()),
            (OFFSET, str(record.offset).encode()),
            (TIME, rfc3339(self._clock()).encode()),
        ]
        return Message(topic=self._topic, key=record.key, value=record.value, headers=[*record.headers, *reason])
