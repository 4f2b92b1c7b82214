"""Where a consumer is in its topics: kept in its database, advanced in the transaction of its effects."""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Connection, select, update

from consumers.rows import insert, upsert
from consumers.tables import positions

Partition = tuple[str, int]  # the topic's name on the cluster, with the prefix


class Fenced(Exception):
    """Another process has moved the position: it has the partition now, and what we were about to do is done."""


class PositionMismatch(RuntimeError):
    """The positions are not of the topics that are there: a sentence for people. Going on would make wrong books."""


class Move(msgspec.Struct, frozen=True, order=True):
    """From the offset where the consumer believes to be (None: it has no position yet) to the next one to read."""

    topic: str
    partition: int
    expected: int | None
    next: int


def load(tx: Connection, consumer: str, cluster_id: str) -> dict[Partition, int]:
    """The next offset to read, by partition. Raises `PositionMismatch` for positions of another cluster."""
    columns = positions.c.topic, positions.c.partition, positions.c.next_offset, positions.c.cluster_id
    found: dict[Partition, int] = {}
    for topic, partition, next_offset, cluster in tx.execute(select(*columns).where(positions.c.consumer == consumer)):
        if cluster != cluster_id:
            raise PositionMismatch(
                f"the database says that {consumer} was at {next_offset} of {topic}/{partition} in the Kafka cluster"
                f" {cluster}, but this is cluster {cluster_id}: connect to that cluster again, or give this one"
                " an empty database"
            )
        found[topic, partition] = next_offset
    return found


def advance(tx: Connection, consumer: str, cluster_id: str, moves: Sequence[Move]) -> None:
    """Raises `Fenced` when any position is not where we believed it to be; the transaction must then be rolled back.

    The first statement of a transaction: a process that has lost a partition waits here for the one that has it, and
    is turned away before it has done anything. All lock in one order: no deadlocks.
    """
    for move in sorted(moves, key=lambda move: (move.topic, move.partition)):
        place = {"consumer": consumer, "topic": move.topic, "partition": move.partition}
        if move.expected is None:
            new = {**place, "next_offset": move.next, "cluster_id": cluster_id}
            first = insert(tx, positions).values(new).on_conflict_do_nothing()
            changed = tx.execute(first, execution_options={"preserve_rowcount": True})
        else:
            here = [positions.c[name] == value for name, value in place.items()]
            here += [positions.c.next_offset == move.expected, positions.c.cluster_id == cluster_id]
            changed = tx.execute(update(positions).where(*here).values(next_offset=move.next))
        if changed.rowcount != 1:
            raise Fenced(f"{move.topic}/{move.partition} is no longer at {move.expected}")


def put(
    tx: Connection, consumer: str, cluster_id: str, targets: Mapping[Partition, int]
) -> dict[Partition, int | None]:
    """Moves positions to where a person wants them, from wherever they are, and says where they were.

    A process of the consumer that runs is fenced by it with its next batch, and reads its positions again. Raises
    `PositionMismatch` for positions of another cluster.
    """
    before: dict[Partition, int | None] = {}
    for topic, partition in sorted(targets):
        place = [positions.c.consumer == consumer, positions.c.topic == topic, positions.c.partition == partition]
        # Locked, as `advance` does by its update: what is said to have been there is what was moved.
        row = tx.execute(select(positions.c.next_offset).where(*place).with_for_update()).one_or_none()
        before[topic, partition] = None if row is None else row.next_offset
    load(tx, consumer, cluster_id)
    rows = [
        {
            "consumer": consumer,
            "topic": topic,
            "partition": partition,
            "next_offset": offset,
            "cluster_id": cluster_id,
        }
        for (topic, partition), offset in sorted(targets.items())
    ]
    upsert(tx, positions, rows)
    return before


def start_of(partition: Partition, stored: int | None, earliest: int, end: int) -> int:
    """Where to begin to read. Without a position: at the earliest event, the log is the truth.

    Raises `PositionMismatch` for a position beyond the end. One before the earliest event is for the caller to say:
    what lay between is gone, and no waiting brings it back.
    """
    if stored is None:
        return earliest
    if stored > end:
        topic, number = partition
        raise PositionMismatch(
            f"the position in {topic}/{number} is {stored}, but the topic ends at {end}: it was deleted and made anew."
            " The database has the books of the old topic. Bring that topic back, or start with an empty database"
        )
    return max(stored, earliest)
