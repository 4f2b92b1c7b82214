"""The swap: what differs is replaced in the live tables, in one transaction; the consumer waits at its positions."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, and_, delete, exists, select, text, update
from sqlalchemy.exc import DBAPIError

from consumers.backoff import Backoff
from consumers.outage import outage
from consumers.positions import Partition
from consumers.replay import corrections
from consumers.replay.books import BOOKS, Book
from consumers.replay.comparison import Comparison, dark
from consumers.replay.shadow import Shadow, differences
from consumers.rows import insert
from consumers.tables import dead_letters, positions
from runtime.threads import in_thread

# The consumer's batch in flight, or a transaction of its downloader or relay, is done long before.
WAIT_FOR_LOCK_S = 30.0

# SQLite looks at the clock after so many of its instructions: some milliseconds.
_INSTRUCTIONS = 100_000


class TooLong(ConnectionError):
    """The live consumer would have waited for too long: nothing was changed. A sentence for people."""


class Swapped(msgspec.Struct, frozen=True):
    """`sessions` were replaced, and `told` derived events say so; for `held_s` seconds the consumer had to wait."""

    sessions: int
    told: int
    held_s: float


class Hold:
    """The time for which the live consumer may be held up, from the moment when it is."""

    def __init__(self, consumer: str, longest_s: float) -> None:
        self._consumer = consumer
        self._longest_s = longest_s
        self._since = time.monotonic()

    @property
    def held_s(self) -> float:
        return time.monotonic() - self._since

    @property
    def left_s(self) -> float:
        """Raises `TooLong`."""
        if (left := self._longest_s - self.held_s) <= 0:
            raise self.too_long()
        return left

    def too_long(self) -> TooLong:
        return TooLong(
            f"Nothing was changed: the swap would have held up {self._consumer} for more than {self._longest_s:g} s."
            " Give it more by --longest-lock, or a time at which less is going on."
        )

    @contextlib.contextmanager
    def watching(self, tx: Connection) -> Iterator[None]:
        """What the database does inside is broken off in time. Raises `TooLong`."""
        left_s = self.left_s
        raw: Any = tx.connection.dbapi_connection
        if tx.dialect.name == "sqlite":
            raw.set_progress_handler(lambda: self.held_s > self._longest_s, _INSTRUCTIONS)
        else:
            tx.execute(text(f"SET LOCAL statement_timeout = {max(1, int(left_s * 1000))}"))
        try:
            yield
        except DBAPIError as error:
            if self.held_s >= self._longest_s * 0.99:
                raise self.too_long() from error
            raise
        finally:
            if tx.dialect.name == "sqlite":
                raw.set_progress_handler(None, 0)


class Swap:
    """Its methods block, in this order, each in a thread; all in one transaction of `shadow.into_live`."""

    def __init__(self, shadow: Shadow, comparison: Comparison, replay: str) -> None:
        self._shadow = shadow
        self._comparison = comparison
        self._replay = replay
        self._books = BOOKS[shadow.consumer]

    def lock(self, tx: Connection, cluster_id: str, starts: Mapping[Partition, int]) -> None:
        """Whoever moves a position waits from now on, and who redrives a dead letter.

        A partition in which the consumer has no position gets one, at its start: else its first event would find
        nothing to wait for. On SQLite all who write wait.
        """
        name = self._shadow.consumer
        rows = [
            {"consumer": name, "topic": topic, "partition": partition, "next_offset": start, "cluster_id": cluster_id}
            for (topic, partition), start in sorted(starts.items())
        ]
        if tx.dialect.name == "postgresql":
            tx.execute(text(f"SET LOCAL lock_timeout = {int(WAIT_FOR_LOCK_S * 1000)}"))
        for row in rows:  # in the order in which all lock them
            tx.execute(insert(tx, positions).on_conflict_do_nothing(), row)
            here = and_(*(positions.c[key] == row[key] for key in ("consumer", "topic", "partition")))
            tx.execute(update(positions).where(here).values(next_offset=positions.c.next_offset))
        letters = select(dead_letters.c.offset).where(dead_letters.c.consumer == name)
        tx.execute(letters.order_by(*dead_letters.primary_key).with_for_update()).all()

    def replace(self, tx: Connection, moved: set[str], hold: Hold, quiet: bool) -> tuple[int, int]:
        """`moved`: sessions of what the shadow has read since it was compared. How many were replaced, and told of."""
        with hold.watching(tx):
            self._comparison.find(tx, only=moved)
            self._comparison.leave_failed(tx)
            self._comparison.leave_parts(tx)
            sessions, told = self._comparison.sessions(tx), 0
        with hold.watching(tx):
            if not quiet:
                corrections.prepare(tx, self._shadow, self._replay, only=moved)
                told = corrections.post(tx, self._shadow)
        for statement in self._statements(tx):
            with hold.watching(tx):
                tx.execute(statement)
        hold.left_s  # noqa: B018 - raises
        return sessions, told

    def _statements(self, tx: Connection) -> Iterator[Any]:
        """Rows go before those that they refer to, and come after them."""
        for book in reversed(self._books.books):
            yield self._removal(book)
        for table in self._books.shared:
            all_of_them = select(*dark(self._shadow, table).c).where(text("1 = 1"))  # SQLite's parser wants a WHERE
            rows = insert(tx, table).from_select(_names(table), all_of_them)
            yield rows.on_conflict_do_nothing()
        for book in self._books.books:
            yield self._arrival(tx, book)

    def _removal(self, book: Book) -> Any:
        live, anew = book.table, dark(self._shadow, book.table)
        same_key = and_(*(live.c[name] == anew.c[name] for name in book.key))
        statement = delete(live).where(live.c.session_id.in_(self._differing()), ~exists(select(1).where(same_key)))
        return statement.where(live.c.consumer == self._shadow.consumer) if "consumer" in live.c else statement

    def _arrival(self, tx: Connection, book: Book) -> Any:
        anew = dark(self._shadow, book.table)
        rows = select(*anew.c).where(anew.c.session_id.in_(self._differing()))
        statement = insert(tx, book.table).from_select(_names(book.table), rows)
        new = book.set_by(statement.excluded)
        if not new:
            return statement.on_conflict_do_nothing()
        return statement.on_conflict_do_update(index_elements=book.key, set_=new)

    def _differing(self) -> Any:
        return select(self._shadow.of(differences).c.session_id)


def _names(table: Table) -> list[str]:
    return [column.name for column in table.c]


async def patiently(tx: Connection, lock: Callable[[], None]) -> None:
    """PostgreSQL waits by itself; SQLite does for five seconds only, and doesn't let who came first go first."""
    loop = asyncio.get_running_loop()
    deadline, backoff, never = loop.time() + WAIT_FOR_LOCK_S, Backoff(longest_s=1.0), asyncio.Event()
    while True:
        try:
            return await in_thread(lock)
        except DBAPIError as error:
            away = outage(error)
            waits = tx.dialect.name == "sqlite" and away is not None and away.passes
            if not waits or loop.time() > deadline:
                raise
            await backoff.wait(never)
