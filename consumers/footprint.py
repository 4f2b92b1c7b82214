"""All that the database knows of a consumer, besides the tables of its own: counted, and taken out."""

import msgspec
from sqlalchemy import Connection, Table, delete, func, select

from consumers import letter_book, outbox
from consumers.positions import Partition
from consumers.tables import dead_letters, positions, revisions, sessions

# In the order in which a batch, and a redrive, lock them: who works for the consumer just then is waited for.
TABLES = (positions, dead_letters, sessions, revisions)


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """Rows, by table. `positions` are of whatever Kafka cluster; `unsettled` of the `dead_letters` are undecided;
    `waiting` are derived events that Kafka has not acknowledged."""

    positions: dict[Partition, int]
    sessions: int
    revisions: int
    dead_letters: int
    unsettled: int
    waiting: int

    @property
    def is_nothing(self) -> bool:
        return not any(getattr(self, name) for name in self.__struct_fields__)


def of(tx: Connection, consumer: str, *, lock: bool = False) -> Footprint:
    """With `lock` none of its positions moves until the end of the transaction, so nothing is handled for it."""
    columns = positions.c.topic, positions.c.partition, positions.c.next_offset
    query = select(*columns).where(positions.c.consumer == consumer).order_by(*columns[:2])
    places = tx.execute(query.with_for_update() if lock else query).all()
    return Footprint(
        positions={(topic, partition): at for topic, partition, at in places},
        sessions=_count(tx, sessions, consumer),
        revisions=_count(tx, revisions, consumer),
        dead_letters=_count(tx, dead_letters, consumer),
        unsettled=letter_book.unsettled(tx, consumer),
        waiting=outbox.waiting_in(tx, consumer),
    )


def erase(tx: Connection, consumer: str) -> None:
    """All but its outbox. A process of it that runs is fenced by its next batch, and begins at the first event."""
    for table in TABLES:
        tx.execute(delete(table).where(table.c.consumer == consumer))


def _count(tx: Connection, table: Table, consumer: str) -> int:
    return tx.execute(select(func.count()).select_from(table).where(table.c.consumer == consumer)).scalar_one()
