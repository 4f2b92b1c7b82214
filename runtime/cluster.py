"""A Kafka as it is now: its topics, how far their partitions reach, and whether a group has members."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code

from runtime.kafka import KafkaUnavailable, make_admin, make_consumer, start_within, stop_within
from runtime.settings import Settings
from schemas.topics import Topic

Place = tuple[str, int]  # a topic's name on the cluster, and a partition of it

ASK_DEADLINE_S = 10.0
LOOK_S = 2.0  # for records that are there: a broker answers in milliseconds


class Reach(NamedTuple):
    """The first offset that there is, and the one that the next record gets."""

    start: int
    end: int


class Cluster:
    """Of an open connection; nothing that it does disturbs anybody's reading. Raises `KafkaUnavailable` throughout."""

    def __init__(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        self._admin = admin
        self._consumer = consumer

    async def id(self) -> str:
        return await _id(self._admin)

    async def topics(self) -> dict[str, list[int]]:
        """The partitions of every topic, by its name."""
        return await _topics(self._admin)

    async def reaches(self, places: Collection[Place]) -> dict[Place, Reach]:
        """Of partitions that exist."""
        wanted = {TopicPartition(*place): place for place in places}
        if not wanted:
            return {}
        starts = await _asked(self._consumer.beginning_offsets(list(wanted)))
        ends = await _asked(self._consumer.end_offsets(list(wanted)))
        return {place: Reach(starts[tp], ends[tp]) for tp, place in wanted.items()}

    async def offsets_at(self, places: Collection[Place], time_ms: int) -> dict[Place, int | None]:
        """The first record that was appended then or later, in partitions that exist; None where there is none."""
        wanted = {TopicPartition(*place): place for place in places}
        if not wanted:
            return {}
        found = await _asked(self._consumer.offsets_for_times(dict.fromkeys(wanted, max(0, time_ms))))
        return {place: None if (at := found.get(tp)) is None else int(at.offset) for tp, place in wanted.items()}

    async def appended_ms(self, offsets: Mapping[Place, int]) -> dict[Place, int]:
        """When the first record at or after an offset was appended; without those that could not be had in moments."""
        wanted = {TopicPartition(*place): offset for place, offset in offsets.items()}
        found: dict[Place, int] = {}
        if not wanted:
            return found
        self._consumer.assign(list(wanted))
        for tp, offset in wanted.items():
            self._consumer.seek(tp, offset)
        deadline = asyncio.get_running_loop().time() + LOOK_S
        while len(found) < len(wanted) and asyncio.get_running_loop().time() < deadline:
            missing = [tp for tp in wanted if (tp.topic, tp.partition) not in found]
            for tp, messages in (await _asked(self._consumer.getmany(*missing, timeout_ms=200))).items():
                found[tp.topic, tp.partition] = int(messages[0].timestamp)
        # Not `unsubscribe`: a stop soon after it can lose its cancellation inside of aiokafka, and waits in vain.
        self._consumer.pause(*wanted)
        return found

    async def members(self, group: str) -> int:
        """How many processes are in a consumer group now."""
        (response,) = await _asked(self._admin.describe_consumer_groups([group]))
        ((error_code, _group, _state, _protocol_type, _protocol, members, *_),) = response.groups
        if error_code:
            raise KafkaUnavailable(f"Kafka doesn't tell of the group {group}: {for_code(error_code).__name__}.")
        return len(members)


async def describe(settings: Settings) -> tuple[str, dict[str, list[int]]]:
    """The cluster's id, and the partitions of every topic. Raises `KafkaUnavailable`."""
    async with _administered(settings) as admin:
        return await _id(admin), await _topics(admin)


async def ends_of(settings: Settings, topics: Sequence[Topic]) -> dict[Place, int]:
    """How far the partitions of some topics reach, for whoever asks once.

    Raises `KafkaUnavailable`, also for a topic that is not there.
    """
    names = [topic.named(settings.topic_prefix) for topic in topics]
    async with connected(settings) as cluster:
        known = await cluster.topics()
        if missing := sorted(set(names) - known.keys()):
            raise KafkaUnavailable(f"Kafka has no topic {', '.join(missing)}: run `ringlog topics apply`.")
        reaches = await cluster.reaches([(name, number) for name in names for number in known[name]])
    return {place: reach.end for place, reach in reaches.items()}


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Cluster]:
    """Raises `KafkaUnavailable`, and `SettingsError` when no Kafka is configured."""
    async with _administered(settings) as admin:
        consumer = make_consumer(settings)
        await start_within(consumer)
        try:
            yield Cluster(admin, consumer)
        finally:
            await stop_within(consumer)


def named(topics: Iterable[str], said: str, prefix: str) -> str:
    """The name on the cluster of what somebody calls a topic, with the prefix or without.

    Raises `LookupError` with a sentence that lists the known ones.
    """
    known = sorted(topics)
    for name in (prefix + said, said):
        if name in known:
            return name
    ours = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
    has = (
        f"it has {', '.join(ours)}" if ours else f"it has none that begins with {prefix!r}" if prefix else "it is empty"
    )
    raise LookupError(f"Kafka has no topic {prefix}{said}: {has}.")


@asynccontextmanager
async def _administered(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = make_admin(settings)
    await start_within(admin)
    try:
        yield admin
    finally:
        await stop_within(admin)


async def _id(admin: AIOKafkaAdminClient) -> str:
    return str((await _asked(admin.describe_cluster()))["cluster_id"])


async def _topics(admin: AIOKafkaAdminClient) -> dict[str, list[int]]:
    described: list[dict[str, Any]] = await _asked(admin.describe_topics())  # of all: asking for one might create it
    return {
        topic["topic"]: sorted(partition["partition"] for partition in topic["partitions"])
        for topic in described
        if not topic["error_code"] and not topic["is_internal"]
    }


async def _asked(question: Any) -> Any:
    try:
        return await asyncio.wait_for(question, ASK_DEADLINE_S)
    except (KafkaError, OSError) as error:  # a `TimeoutError` is one
        raise KafkaUnavailable(f"Kafka can't be asked: {str(error) or 'it gave no answer'}.") from error
