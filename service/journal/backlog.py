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


_HALF = 32  # bits
_MASK = 2**_HALF - 1


class Backlog:
    """Sequence numbers, hashes and sizes only, packed into one integer: some fifty bytes an event, for there may be
    millions. Until Kafka has said how many partitions a topic has, nobody knows an event's place, and it waits for
    `place`."""

    def __init__(self) -> None:
        self._places: dict[Place, deque[int]] = {}
        self._unplaced: dict[str, list[int]] = {}
        self.partitions: Mapping[str, int] = {}
        self.events = 0
        self.bytes = 0

    def add(self, waiting: Iterable[Waiting]) -> None:
        for seq, topic, hash_, size in waiting:
            self.events += 1
            self.bytes += size
            packed = seq << 2 * _HALF | hash_ << _HALF | size
            partitions = self.partitions.get(topic)
            if partitions is None:
                self._unplaced.setdefault(topic, []).append(packed)
            else:
                self._place(topic, partitions, (packed,))

    def place(self, partitions: Mapping[str, int]) -> None:
        """How many partitions each topic has."""
        self.partitions = partitions
        for topic in self._unplaced.keys() & partitions.keys():
            self._place(topic, partitions[topic], self._unplaced.pop(topic))

    @property
    def places(self) -> list[Place]:
        """Where something waits."""
        return list(self._places)

    def first(self, place: Place, records: int, size: int) -> list[int]:
        """The first of a place: at most so many, and of at most so many bytes, but at least one."""
        found: list[int] = []
        for packed in islice(self._places.get(place, ()), records):
            size -= packed & _MASK
            if found and size < 0:
                break
            found.append(packed >> 2 * _HALF)
        return found

    def count(self, place: Place) -> int:
        return len(self._places.get(place, ()))

    def remove(self, place: Place, count: int) -> None:
        """The first so many of a place are no longer waiting."""
        queue = self._places[place]
        for _ in range(count):
            self.events -= 1
            self.bytes -= queue.popleft() & _MASK
        if not queue:
            del self._places[place]

    def _place(self, topic: str, partitions: int, found: Iterable[int]) -> None:
        for packed in found:
            place = topic, partition_of(packed >> _HALF & _MASK, partitions)
            queue = self._places.get(place)
            if queue is None:
                queue = self._places[place] = deque()
            queue.append(packed)
