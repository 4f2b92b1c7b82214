"""How far the consumers are behind: their positions beside the ends of the topics."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import Engine, select

from consumers.billing import Billing
from consumers.call_log import CallLog
from consumers.database import read_only
from consumers.recordings import Recordings
from consumers.tables import positions
from consumers.transcripts import Transcripts
from runtime.cluster import Cluster, Place, Reach
from runtime.settings import Settings
from runtime.threads import in_thread
from state.reader import ProfileReader

# Those of ours read these from the beginning, whether or not they have ever run.
OURS = {consumer.name: consumer.topics for consumer in (CallLog, Billing, Transcripts, Recordings)}

BUILDER = "profiles"  # its positions are not in the database, but in the state store of its machine

NO_POSITION = "has not read yet"
BEYOND = "the topic ends before it"
FORGOTTEN = "the topic has forgotten what comes next"
NO_TOPIC = "no such partition"
ELSEWHERE = "of another Kafka cluster"


class PartitionLag(msgspec.Struct, kw_only=True):
    """Of one consumer in one partition. `topic` is its name on the cluster.

    `lag` counts offsets from the position, or from the beginning without one, to `end`: at least the events that are
    unread; None when nobody can know. `trouble` is for people. `oldest_unread_ms`: when the first unread event was
    appended, in milliseconds since the epoch; None when there is none, or it could not be had in moments.
    """

    consumer: str
    topic: str
    partition: int
    position: int | None = None
    start: int | None = None
    end: int | None = None
    lag: int | None = None
    trouble: str | None = None
    oldest_unread_ms: int | None = None

    @property
    def place(self) -> Place:
        return self.topic, self.partition


async def measure(settings: Settings, engine: Engine, cluster: Cluster, only: Sequence[str] = ()) -> list[PartitionLag]:
    """Of every consumer with a position in the database, of ours without one too, and of the profile builder here.

    Raises `KafkaUnavailable` and what the database raises.
    """
    topics = await cluster.topics()
    # The positions first: what is appended in between counts as lag, and no position seems beyond the end.
    found = await in_thread(_found, settings, engine, await cluster.id(), topics)
    if only:
        found = [it for it in found if it.consumer in only]
    reaches = await cluster.reaches({it.place for it in found if it.partition in topics.get(it.topic, ())})
    for it in found:
        _compare(it, reaches.get(it.place))
    await _date(cluster, found)
    return sorted(found, key=lambda it: (it.consumer, it.topic, it.partition))


def _found(settings: Settings, engine: Engine, cluster_id: str, topics: Mapping[str, list[int]]) -> list[PartitionLag]:
    read: dict[str, dict[Place, PartitionLag]] = {}
    columns = positions.c.consumer, positions.c.topic, positions.c.partition, positions.c.next_offset
    with read_only(engine).connect() as tx:
        for consumer, topic, partition, at, cluster in tx.execute(select(*columns, positions.c.cluster_id)):
            trouble = None if cluster == cluster_id else ELSEWHERE
            read.setdefault(consumer, {})[topic, partition] = PartitionLag(
                consumer=consumer, topic=topic, partition=partition, position=at, trouble=trouble
            )
    for consumer, theirs in OURS.items():
        _fill(read.setdefault(consumer, {}), consumer, (topic.named(settings.topic_prefix) for topic in theirs), topics)
    for consumer, known in read.items():  # one of somebody else: what it reads some of, it reads all of
        _fill(known, consumer, sorted({topic for topic, _ in known}), topics)
    return [it for known in read.values() for it in known.values()] + _of_builder(settings)


def _fill(
    known: dict[Place, PartitionLag], consumer: str, names: Iterable[str], topics: Mapping[str, list[int]]
) -> None:
    for name in names:
        for number in topics.get(name, ()):
            known.setdefault((name, number), PartitionLag(consumer=consumer, topic=name, partition=number))


def _of_builder(settings: Settings) -> list[PartitionLag]:
    """Nothing when there is no state store on this machine."""
    reader = ProfileReader(settings.state_dir)
    try:
        known = reader.positions()
    finally:
        reader.close()
    return [
        PartitionLag(consumer=BUILDER, topic=settings.topic_prefix + topic, partition=number, position=at)
        for (topic, number), at in known.items()
    ]


def _compare(it: PartitionLag, reach: Reach | None) -> None:
    if it.trouble is not None:
        return
    if reach is None:
        it.trouble = NO_TOPIC
        return
    it.start, it.end = reach
    if it.position is None:
        it.lag = reach.end - reach.start
        it.trouble = NO_POSITION if it.lag else None  # of an empty partition there is none to have
    elif it.position > reach.end:
        it.trouble = BEYOND
    elif it.position < reach.start:
        it.trouble, it.lag = FORGOTTEN, reach.end - reach.start
    else:
        it.lag = reach.end - it.position


async def _date(cluster: Cluster, found: Sequence[PartitionLag]) -> None:
    """One look for each position that several share, one round for each that a partition has."""
    behind = [it for it in found if it.lag and it.end is not None]
    wanted = {(it.place, it.end - (it.lag or 0)) for it in behind if it.end is not None}
    ages: dict[tuple[Place, int], int] = {}
    while wanted:
        round_: dict[Place, int] = {}
        for place, offset in sorted(wanted):
            round_.setdefault(place, offset)
        asked = await cluster.appended_ms(round_)
        ages |= {(place, round_[place]): time_ms for place, time_ms in asked.items()}
        wanted -= set(round_.items())
    for it in behind:
        if it.end is not None:
            it.oldest_unread_ms = ages.get((it.place, it.end - (it.lag or 0)))
