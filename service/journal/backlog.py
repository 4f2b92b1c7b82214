"""What waits in the spool, by partition, in its order."""

import functools
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice

from schemas.partition import murmur2
from service.journal.spool import Waiting

Place = tuple[str, int]  # the catalogue's topic, and the partition

# murmur2 in Python takes some microseconds, and callers come back.
hash_of = functools.lru_cache(maxsize=16_384)(murmur2)


def partition_of(hash_: int, partitions: int) -> int:
    return (hash_ & 0x7FFFFFFF) % partitions


class Backlog:
    """Sequence numbers and sizes only, some forty bytes an event. Until Kafka has said how many partitions a topic has,
    nobody knows an event's place, and it waits for `place`."""

    def __init__(self) -> None:
        self._places: dict[Place, deque[Waiting]] = {}
        self._unplaced: list[Waiting] = []
        self.partitions: Mapping[str, int] = {}
        self.events = 0
        self.bytes = 0

    def add(self, waiting: Iterable[Waiting]) -> None:
        for one in waiting:
            self.events += 1
            self.bytes += one.size
            self._put(one)

    def place(self, partitions: Mapping[str, int]) -> None:
        """How many partitions each topic has."""
        self.partitions = partitions
        unplaced, self._unplaced = self._unplaced, []
        for one in unplaced:
            self._put(one)

    @property
    def places(self) -> list[Place]:
        """Where something waits."""
        return list(self._places)

    @property
    def has_unplaced(self) -> bool:
        return bool(self._unplaced)

    def first(self, place: Place, records: int, size: int) -> list[int]:
        """The first of a place: at most so many, and of at most so many bytes, but at least one."""
        found: list[int] = []
        for one in islice(self._places.get(place, ()), records):
            size -= one.size
            if found and size < 0:
                break
            found.append(one.seq)
        return found

    def count(self, place: Place) -> int:
        return len(self._places.get(place, ()))

    def remove(self, place: Place, count: int) -> None:
        """The first so many of a place are no longer waiting."""
        queue = self._places[place]
        for _ in range(count):
            self.events -= 1
            self.bytes -= queue.popleft().size
        if not queue:
            del self._places[place]

    def _put(self, one: Waiting) -> None:
        partitions = self.partitions.get(one.topic)
        if partitions is None:
            self._unplaced.append(one)
        else:
            self._places.setdefault((one.topic, partition_of(one.hash, partitions)), deque()).append(one)
