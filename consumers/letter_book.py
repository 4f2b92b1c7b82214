"""The book of dead letters: which events a consumer has given up, and what has become of each. In its database."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select, update

from consumers.rows import upsert
from consumers.tables import dead_letters, positions

Outcome = Literal["redriven", "discarded"]

# Of so many events that a consumer was last through, a share may be given up. Enough that one odd caller is no wave.
WINDOW_EVENTS = 1000

# Before so many are given up their share says nothing: the third event of a new topic would be a third of it.
ALWAYS_ALLOWED = 10


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """`topic` (its name on the cluster), `partition` and `offset` say where the event lies; the letter itself, with the
    event's bytes and the reason, lies at `letter_partition` and `letter_offset` of the dead letters.

    Times are in microseconds since the epoch. `outcome` is None as long as nobody has decided.
    """

    topic: str
    partition: int
    offset: int
    letter_partition: int
    letter_offset: int
    event_id: str | None
    session_id: str | None
    error: str
    given_up_at: int
    outcome: Outcome | None = None
    settled_at: int | None = None


class Share(msgspec.Struct, frozen=True):
    """Of the last `events` that a consumer was through, `letters` are given up and not settled."""

    letters: int
    events: int

    @property
    def of_one(self) -> float:
        return self.letters / self.events if self.events else 0.0

    def exceeds(self, limit: float) -> bool:
        return self.letters > ALWAYS_ALLOWED and self.of_one > limit


def enter(tx: Connection, consumer: str, letter: Letter) -> None:
    """In the transaction that moves the position past the event, so that the book has what was given up, no more."""
    row = msgspec.structs.asdict(letter) | {"consumer": consumer, "handled": _handled(tx, consumer)}
    upsert(tx, dead_letters, [row])


def settle(tx: Connection, consumer: str, letter: Letter, outcome: Outcome, now_us: int) -> bool:
    """False when it has that outcome already, or was redriven, which can't be undone. Locks the letter otherwise."""
    undone = dead_letters.c.outcome.is_(None)
    may_change = undone | (dead_letters.c.outcome == "discarded") if outcome == "redriven" else undone
    of_it = _of(consumer, letter)
    statement = update(dead_letters).where(may_change, *of_it).values(outcome=outcome, settled_at=now_us)
    return tx.execute(statement).rowcount == 1


def is_redriven(tx: Connection, consumer: str, letter: Letter) -> bool:
    query = select(dead_letters.c.outcome).where(*_of(consumer, letter))
    return tx.execute(query).scalar() == "redriven"


def is_known(tx: Connection, consumer: str) -> bool:
    """Whether a consumer of that name has ever read, or given up, anything here."""
    read = select(positions.c.consumer).where(positions.c.consumer == consumer).limit(1)
    gave_up = select(dead_letters.c.consumer).where(dead_letters.c.consumer == consumer).limit(1)
    return tx.execute(read).first() is not None or tx.execute(gave_up).first() is not None


def find(
    tx: Connection,
    consumer: str,
    *,
    settled: bool = False,
    error: str | None = None,
    since_us: int | None = None,
    session_id: str | None = None,
) -> list[Letter]:
    """Those that nobody has settled, or with `settled` all, as the filters ask; the events of a partition in order."""
    columns = [dead_letters.c[name] for name in Letter.__struct_fields__]
    query = select(*columns).where(dead_letters.c.consumer == consumer)
    if not settled:
        query = query.where(dead_letters.c.outcome.is_(None))
    if error is not None:
        query = query.where(dead_letters.c.error == error)
    if since_us is not None:
        query = query.where(dead_letters.c.given_up_at >= since_us)
    if session_id is not None:
        query = query.where(dead_letters.c.session_id == session_id)
    query = query.order_by(dead_letters.c.topic, dead_letters.c.partition, dead_letters.c.offset)
    return [Letter(**row._mapping) for row in tx.execute(query)]


def unsettled(tx: Connection, consumer: str) -> int:
    mine = (dead_letters.c.consumer == consumer) & dead_letters.c.outcome.is_(None)
    return tx.execute(select(func.count()).select_from(dead_letters).where(mine)).scalar_one()


def share(tx: Connection, consumer: str, more: int = 0) -> Share:
    """Over the last events of all partitions and processes, as the database knows them: a restart changes nothing.

    With `more`: as it would be if the next so many were given up.
    """
    handled = _handled(tx, consumer) + more
    mine = (dead_letters.c.consumer == consumer) & dead_letters.c.outcome.is_(None)
    recent = mine & (dead_letters.c.handled > handled - WINDOW_EVENTS)
    letters = tx.execute(select(func.count()).select_from(dead_letters).where(recent)).scalar_one()
    return Share(letters + more, min(handled, WINDOW_EVENTS))


def _of(consumer: str, letter: Letter) -> list[ColumnElement[bool]]:
    place = [dead_letters.c[name] == getattr(letter, name) for name in ("topic", "partition", "offset")]
    return [dead_letters.c.consumer == consumer, *place]


def _handled(tx: Connection, consumer: str) -> int:
    """How many events it has been through: a topic that forgets nothing begins at 0, so its position says it."""
    query = select(func.sum(positions.c.next_offset)).where(positions.c.consumer == consumer)
    return int(tx.execute(query).scalar() or 0)


def matching(letters: Sequence[Letter], which: str, prefix: str) -> list[Letter]:
    """By `PARTITION/OFFSET`, `TOPIC/PARTITION/OFFSET` or the event's id; several when the event lies there twice."""
    return [
        letter
        for letter in letters
        if which in (letter.event_id, place(letter), place(letter).removeprefix(prefix), _short_place(letter))
    ]


def place(letter: Letter) -> str:
    """Where the event lies, as logs say it."""
    return f"{letter.topic}/{_short_place(letter)}"


def _short_place(letter: Letter) -> str:
    return f"{letter.partition}/{letter.offset}"
