"""The catalogue of topics: what ringlog writes, how it is keyed and how long it is kept."""

from typing import Literal

import msgspec

FOREVER_MS = -1
DAY_MS = 24 * 60 * 60 * 1000

# The largest record: a body of 8 MiB (the limit of a webhook), its envelope and what base64 or escapes add.
MAX_MESSAGE_BYTES = 10 * 1024 * 1024

# A builder that was away for longer than tombstones live must rebuild: long enough for a holiday.
TOMBSTONE_LIFE_MS = 30 * DAY_MS

PARTITIONS_ON_A_CLUSTER = 12
PARTITIONS_LOCALLY = 4


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """`key` and `about` are for people; the rest becomes the topic's configuration."""

    name: str
    key: str
    owner: str
    about: str
    retention_ms: int = FOREVER_MS
    cleanup: Literal["delete", "compact"] = "delete"

    def named(self, prefix: str) -> str:
        """The topic's name on a cluster where `RINGLOG_TOPIC_PREFIX` is `prefix`."""
        return prefix + self.name

    def config(self, min_insync: int) -> dict[str, str]:
        """Kafka's topic settings.

        `LogAppendTime`: the time of a record is the broker's. A broker refuses times too far ahead, so a wrong clock
        of ours would otherwise poison what waits to be sent.
        """
        config = {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "retention.bytes": "-1",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "min.insync.replicas": str(min_insync),
            "message.timestamp.type": "LogAppendTime",
            "compression.type": "zstd",  # by the broker: in the producer it would run on the event loop
        }
        if self.cleanup == "compact":
            config["delete.retention.ms"] = str(TOMBSTONE_LIFE_MS)
        return config


CALLS_PREFETCH = Topic(
    name="calls.prefetch",
    key="caller",
    owner="service",
    about="A call is about to begin: the provider asked what we know of the caller.",
)
CALLS_ENDED = Topic(
    name="calls.ended",
    key="caller",
    owner="service",
    about="A call has ended: the provider's record of it, secrets redacted.",
)
CALLS_REJECTED = Topic(
    name="calls.rejected",
    key="none",
    owner="service",
    retention_ms=30 * DAY_MS,
    about="A webhook that could not be read, kept with the reason.",
)
CALLERS_FACTS = Topic(
    name="callers.facts",
    key="caller/fact, partitioned by caller",
    owner="service",
    cleanup="compact",
    about="What our user knows of a caller; the newest record of a key is the fact, an empty one deletes it.",
)
BILLING_CHARGES = Topic(
    name="billing.charges",
    key="caller",
    owner="billing",
    about="What an event changed on the bill of a call.",
)
TRANSCRIPTS_READY = Topic(
    name="transcripts.ready",
    key="caller",
    owner="transcripts",
    about="The transcript of a call was written or revised.",
)
RECORDINGS_STORED = Topic(
    name="recordings.stored",
    key="caller",
    owner="recordings",
    about="The recording of a call lies in object storage.",
)


def dead_letters(consumer: str) -> Topic:
    return Topic(
        name=f"dead-letters.{consumer}",
        key="that of the event",
        owner=consumer,
        about=f"Events that {consumer} could not handle, with the reason.",
    )


# Those that work in a consumer group. The profile builder has none: it counts what it can't read, and goes on.
GROUP_CONSUMERS = ("calls", "billing", "transcripts", "recordings")

CATALOGUE = (
    CALLS_PREFETCH,
    CALLS_ENDED,
    CALLS_REJECTED,
    CALLERS_FACTS,
    BILLING_CHARGES,
    TRANSCRIPTS_READY,
    RECORDINGS_STORED,
    *(dead_letters(consumer) for consumer in GROUP_CONSUMERS),
)
