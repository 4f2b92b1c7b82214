"""Where somebody wants a consumer's positions, worked out against the topics as they are."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cli.since import time_us
from consumers.positions import Partition
from runtime.cluster import Cluster, Reach, named
from runtime.settings import SettingsError

BEGINNING, END = "beginning", "end"


class Step(msgspec.Struct):
    """Of one partition: from `before` (None: it has no position, and would begin at the topic's `start`) to `after`."""

    topic: str
    partition: int
    before: int | None
    after: int
    start: int

    @property
    def place(self) -> Partition:
        return self.topic, self.partition

    @property
    def skipped(self) -> int:
        """Offsets that would never be read."""
        return max(0, self.after - max(self.start, self.before or 0))

    @property
    def again(self) -> int:
        """Offsets that have been read, and would be once more."""
        return 0 if self.before is None else max(0, self.before - self.after)


class Wish(msgspec.Struct, frozen=True):
    """`partition` None means all of the topic's; `where` is an offset, `beginning`, `end` or a time."""

    topic: str
    partition: int | None
    where: str


def wish_of(said: str) -> Wish:
    """Raises `SettingsError` with a sentence."""
    place, equals, where = said.rpartition("=")
    topic, slash, number = place.rpartition("/")
    if not equals or not where or not place or (slash and not number.isdecimal()):
        raise SettingsError(
            f"{said!r} says no position: write TOPIC/PARTITION=OFFSET, beginning, end or a time (calls.ended/3=1042),"
            " or TOPIC=beginning for all of its partitions."
        )
    if not slash and where.isdecimal():
        raise SettingsError(f"{said!r} names no partition: an offset is one of a partition, as in {place}/0={where}.")
    return Wish(topic if slash else place, int(number) if slash else None, where)


async def steps_of(
    cluster: Cluster, wishes: Sequence[Wish], before: Mapping[Partition, int], prefix: str, now_us: int
) -> list[Step]:
    """Raises `SettingsError` for what is no place of the topics, `KafkaUnavailable`."""
    topics = await cluster.topics()
    wanted: dict[Partition, str] = {}
    for wish in wishes:
        for place in _places(topics, wish, prefix):
            if wanted.setdefault(place, wish.where) != wish.where:
                raise SettingsError(f"{place[0]}/{place[1]} is wanted at two places.")
    reaches = await cluster.reaches(wanted)
    times = await _times(cluster, wanted, now_us)
    return [
        Step(*place, before.get(place), _offset(place, where, reaches[place], times), reaches[place].start)
        for place, where in sorted(wanted.items())
    ]


def _places(topics: Mapping[str, list[int]], wish: Wish, prefix: str) -> Iterable[Partition]:
    try:
        name = named(topics, wish.topic, prefix)
    except LookupError as error:
        raise SettingsError(str(error)) from None
    if wish.partition is None:
        return [(name, number) for number in topics[name]]
    if wish.partition not in topics[name]:
        raise SettingsError(f"{name} has no partition {wish.partition}: it has 0 to {len(topics[name]) - 1}.")
    return [(name, wish.partition)]


async def _times(cluster: Cluster, wanted: Mapping[Partition, str], now_us: int) -> dict[Partition, int | None]:
    """Offsets of those that are wanted at a time."""
    by_time: dict[int, list[Partition]] = {}
    for place, where in wanted.items():
        if not where.isdecimal() and where not in (BEGINNING, END):
            by_time.setdefault(time_us(where, now_us, "The position") // 1000, []).append(place)
    found: dict[Partition, int | None] = {}
    for time_ms, places in by_time.items():
        found |= await cluster.offsets_at(places, time_ms)
    return found


def _offset(place: Partition, where: str, reach: Reach, times: Mapping[Partition, int | None]) -> int:
    if where == BEGINNING:
        return reach.start
    if where == END:
        return reach.end
    if place in times:
        at = times[place]
        return reach.end if at is None else at
    offset = int(where)
    if not reach.start <= offset <= reach.end:
        raise SettingsError(
            f"{place[0]}/{place[1]} has no offset {offset}: it begins at {reach.start} and ends at {reach.end}."
        )
    return offset
