"""A log in memory, and one process's reading of it from the positions in the database."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

import msgspec
from sqlalchemy import Engine

from consumers import positions
from consumers.positions import Move, Partition
from consumers.reader import BATCH_RECORDS
from consumers.testing.steps import Steps
from schemas.event import Record
from schemas.partition import partition_of

CLUSTER_ID = "trial"

# A shuffled poll has at most so many records of a partition: small, so that a handful of events makes many batches.
FEW = 4


class Log:
    """The topics, each with so many partitions."""

    def __init__(self, partitions: int) -> None:
        self._count = partitions
        self.partitions: dict[Partition, list[Record]] = {}

    def append(self, record: Record) -> None:
        number = partition_of(record.key, self._count) if record.key is not None else 0
        there = self.partitions.setdefault((record.topic, number), [])
        there.append(msgspec.structs.replace(record, partition=number, offset=len(there)))


class Reading:
    """A `consumers.progress.Progress`. With `chance`, what it polls is as large, and as mixed, as chance has it."""

    epoch = 0
    cluster_id = CLUSTER_ID

    def __init__(
        self, log: Log, topics: Sequence[str], consumer: str, engine: Engine, steps: Steps, chance: Random | None
    ) -> None:
        self._partitions = {place: found for place, found in log.partitions.items() if place[0] in topics}
        self._steps = steps
        self._chance = chance
        with engine.connect() as tx:
            self._stored: dict[Partition, int] = positions.load(tx, consumer, CLUSTER_ID)

    def poll(self) -> list[Record]:
        """What comes next, of all partitions, in the order of each; empty at the end of the log."""
        left = {
            place: records[self._stored.get(place, 0) :]
            for place, records in sorted(self._partitions.items())
            if len(records) > self._stored.get(place, 0)
        }
        if self._chance is None or not left:
            return list(itertools.chain.from_iterable(left.values()))[:BATCH_RECORDS]
        some = self._chance.sample(list(left), self._chance.randint(1, len(left)))
        return [record for place in some for record in left[place][: self._chance.randint(1, FEW)]]

    def moves(self, records: Sequence[Record]) -> list[Move]:
        last = {(record.topic, record.partition): record.offset for record in records}
        return [Move(*place, self._stored.get(place), offset + 1) for place, offset in last.items()]

    def moved(self, moves: Sequence[Move]) -> None:
        self._steps.moment("after commit")
        self._stored |= {(move.topic, move.partition): move.next for move in moves}

    @contextmanager
    def committing(self) -> Iterator[None]:
        yield
