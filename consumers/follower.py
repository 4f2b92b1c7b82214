"""Reads every partition of some topics, without a group: each process that builds state for itself reads them all."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.parts import Parts
from runtime.cluster import describe
from runtime.fetched_records import read_lean
from runtime.kafka import KafkaUnavailable, make_consumer, start_within, stop_within
from runtime.settings import Settings
from schemas.topics import Topic
from state.slices import Message, Slice

Partition = tuple[str, int]  # of a topic as the catalogue names it
Offsets = dict[Partition, int]

_Found = dict[TopicPartition, list[Message]]

# One transaction and one fsync a batch. Callers' keys are hashes, so each caller of a batch changes pages of its own
# somewhere in the file, which are in memory until the commit: the more events share a transaction, the more share a
# page. With half as many a rebuild takes a fifth longer, and needs 340 MiB for ten million events instead of 460.
BATCH_RECORDS = 40_000

BATCH_BYTES = 32 * 1024 * 1024  # of values, for memory
PART_RECORDS = 1_000  # asked for at a time
POLL_S = 0.25  # how long a stop may go unnoticed

ASK_DEADLINE_S = 10.0  # for the offsets at which partitions begin and end
METADATA_AGE_MS = 30_000  # new partitions are noticed within this
STALLED_AFTER_S = 30.0  # longer than the election of a leader

# A new leader may not know at once how far its followers have come, and then reports an end that is too early.
END_TRIES = 5
END_RETRY_S = 1.0


class Interrupted(ConnectionError):
    """The client must be made anew: it stalls, or the topics are not what they were when it was made."""


class Follower:
    """One life of a client: `open`, `start`, then `poll` and `measure` until something raises, `close`."""

    def __init__(self, settings: Settings, topics: Sequence[Topic], now_s: Callable[[], float]) -> None:
        self._settings = settings
        self._names = {topic.named(settings.topic_prefix): topic.name for topic in topics}
        self._now_s = now_s
        self._consumer: AIOKafkaConsumer = make_consumer(settings, metadata_max_age_ms=METADATA_AGE_MS)
        self._parts: Parts[Message] = Parts(
            self._consumer, records=BATCH_RECORDS, bytes_=BATCH_BYTES, part_records=PART_RECORDS
        )
        self._partitions: dict[TopicPartition, Partition] = {}
        self._ahead: asyncio.Task[_Found] | None = None  # what comes next, read while the last batch is folded
        self._progress: Offsets = {}
        self._progress_at = now_s()
        self.lineage = ""
        self.starts: Offsets = {}
        self.ends: Offsets = {}

    async def open(self) -> None:
        """Finds the topics. Raises `KafkaUnavailable`, also while one is missing, and Kafka's errors."""
        cluster_id, known = await describe(self._settings)
        if missing := sorted(self._names.keys() - known.keys()):
            raise KafkaUnavailable(f"there is no topic {', '.join(missing)}: run `ringlog topics apply`")
        self.lineage = f"{cluster_id}/{self._settings.topic_prefix}"
        self._partitions = {
            TopicPartition(name, number): (topic, number)
            for name, topic in self._names.items()
            for number in known[name]
        }
        await start_within(self._consumer)
        read_lean(self._consumer)  # the fold looks at no header
        self._consumer.assign(list(self._partitions))
        starts = await asyncio.wait_for(self._consumer.beginning_offsets(list(self._partitions)), ASK_DEADLINE_S)
        self.starts = {self._partitions[tp]: offset for tp, offset in starts.items()}
        self.ends = await self._ends_now()

    async def confirm_ends(self, positions: Mapping[Partition, int]) -> None:
        """Asks again while a partition seems to end before a position."""
        for _ in range(END_TRIES):
            if all(positions.get(partition, 0) <= end for partition, end in self.ends.items()):
                return
            await asyncio.sleep(END_RETRY_S)
            self.ends = await self._ends_now()

    def start(self, positions: Mapping[Partition, int]) -> None:
        """From the positions, and from the beginning where there is none."""
        self._forget_ahead()
        for tp, partition in self._partitions.items():
            self._consumer.seek(tp, positions.get(partition, self.starts[partition]))
        self._progress_at = self._now_s()

    def only(self, partitions: Collection[Partition]) -> None:
        """From now on `poll` brings what these have, and of the others at most what was read ahead."""
        wanted = [tp for tp, partition in self._partitions.items() if partition in partitions]
        self._consumer.pause(*(tp for tp in self._partitions if tp not in wanted))
        self._consumer.resume(*wanted)

    async def positions(self) -> Offsets:
        """Up to where `poll` has given everything. By the client's own position, which also passes what brings no
        message: records that were compacted away, marks of transactions."""
        ahead = await self._ahead if self._ahead else {}
        return {
            partition: int(ahead[tp][0].offset if tp in ahead else await self._consumer.position(tp))
            for tp, partition in self._partitions.items()
        }

    async def poll(self) -> list[Slice]:
        """What has come, at most `BATCH_RECORDS` and hardly more than `BATCH_BYTES`; empty after `POLL_S`.

        While there is more, the next is read meanwhile: a disk that is waited for is no reason not to read.
        """
        found = await (self._ahead or self._read())
        self._ahead = asyncio.create_task(self._read()) if found else None
        return [
            Slice(*self._partitions[tp], next_offset=messages[-1].offset + 1, messages=messages)
            for tp, messages in found.items()
        ]

    async def ask_ends(self) -> Offsets:
        """Where the partitions end now."""
        self.ends = await self._ends_now()
        return self.ends

    async def measure(self) -> tuple[Offsets, Offsets]:
        """Where it is, and where the partitions end. Raises `Interrupted`."""
        self._check_partitions()
        ends = await self._ends_now()
        at = await self.positions()
        behind = [partition for partition, offset in at.items() if offset < ends[partition]]
        if at != self._progress or not behind:
            self._progress, self._progress_at = at, self._now_s()
        elif self._now_s() - self._progress_at > STALLED_AFTER_S:
            raise Interrupted(f"nothing was read for {STALLED_AFTER_S:g} s, although there is something to read")
        if any(offset > ends[partition] for partition, offset in at.items()):
            raise Interrupted("a topic ends before what was read of it")
        return at, ends

    async def close(self) -> None:
        """Never raises, never takes longer than its deadline."""
        self._forget_ahead()
        await stop_within(self._consumer)

    async def _read(self) -> _Found:
        return (await self._parts.batch((), POLL_S)).found

    def _forget_ahead(self) -> None:
        """What it has taken is lost: seek, or close, before the next `poll`."""
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead.add_done_callback(lambda ahead: ahead.cancelled() or ahead.exception())
            self._ahead = None

    def _check_partitions(self) -> None:
        for name in self._names:
            known = self._consumer.partitions_for_topic(name)
            if known is not None and {tp.partition for tp in self._partitions if tp.topic == name} != set(known):
                raise Interrupted(f"{name} has other partitions than before")

    async def _ends_now(self) -> Offsets:
        ends = await asyncio.wait_for(self._consumer.end_offsets(list(self._partitions)), ASK_DEADLINE_S)
        return {self._partitions[tp]: offset for tp, offset in ends.items()}
