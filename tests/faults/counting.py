"""A consumer that counts how often each event had its effect.

Our own consumers know an event that comes again, and so would hide a runner that has effects made twice.
"""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Column, Connection, Engine, Integer, MetaData, Table, select

from consumers.rows import insert
from schemas.event import Record
from schemas.topics import CALLS_ENDED, Topic

NAME = "counting"

metadata = MetaData()
counts = Table(
    "counts",
    metadata,
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("times", BigInteger, nullable=False),
)


class Counting:
    name = NAME
    topics: tuple[Topic, ...] = (CALLS_ENDED,)

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        statement = insert(tx, counts)
        again = {"times": counts.c.times + 1}
        tx.execute(
            statement.on_conflict_do_update(index_elements=["partition", "offset"], set_=again),
            [{"partition": record.partition, "offset": record.offset, "times": 1} for record in records],
        )


def miscounted(engine: Engine, ends: dict[int, int]) -> list[str]:
    """Which events had their effect never, or more than once, or lie beyond the end; in sentences."""
    with engine.connect() as tx:
        times = {(row.partition, row.offset): row.times for row in tx.execute(select(counts))}
    expected = {(partition, offset): 1 for partition, end in ends.items() for offset in range(end)}
    return [
        f"event {place}: {times.get(place, 0)} times, not {expected.get(place, 0)}"
        for place in sorted(times.keys() | expected.keys())
        if times.get(place, 0) != expected.get(place, 0)
    ]
