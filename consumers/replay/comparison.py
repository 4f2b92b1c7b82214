"""The live tables and the shadow's, compared by the database itself: only what differs leaves it."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    true,
)

from consumers.replay.books import BOOKS, Book
from consumers.replay.shadow import Shadow, differences, failures, seen
from consumers.rows import among
from consumers.tables import revisions, sessions


class Change(msgspec.Struct, frozen=True):
    """How many rows of a table the swap would add, remove and change."""

    book: str
    added: int = 0
    removed: int = 0
    changed: int = 0


class Total(msgspec.Struct, frozen=True):
    """The sum of a table's amounts, in millionths, before the swap and after it, `of` a kind of entry or a currency."""

    book: str
    of: str
    before_micros: int
    after_micros: int

    @property
    def difference_micros(self) -> int:
        return self.after_micros - self.before_micros


class Differing(msgspec.Struct, frozen=True):
    """One session: what becomes of its rows, and of its amounts."""

    session_id: str
    changes: list[Change]
    totals: list[Total]


class Comparison:
    """Its methods need a transaction of `shadow.joint`; what they find is kept in the shadow."""

    def __init__(self, shadow: Shadow, partial: bool) -> None:
        self._shadow = shadow
        self._partial = partial
        self._books = BOOKS[shadow.consumer].books
        self._found = shadow.of(differences)

    def find(self, tx: Connection, only: set[str] | None = None) -> None:
        """Of all sessions, or of these only. What was found of them before is forgotten."""
        if only is not None and not only:
            return
        self._forget(tx, only)
        for book in self._books:
            for query in self._queries(book):
                of_these = query if only is None else query.where(among(tx, query.selected_columns[0], only))
                tx.execute(insert(self._found).from_select([column.name for column in self._found.c], of_these))

    def leave_failed(self, tx: Connection) -> int:
        """Forgets the sessions of events that failed here: live they had their effects. How many there are."""
        anew = self._shadow.of(failures)
        failed = select(anew.c.session_id).where(anew.c.session_id.is_not(None))
        return self._leave(tx, self._found.c.session_id.in_(failed))

    def leave_parts(self, tx: Connection) -> int:
        """Forgets the sessions of which not all was read. How many."""
        return self._leave(tx, self._found.c.session_id.in_(self._parts())) if self._partial else 0

    def leave(self, tx: Connection, session_ids: Iterable[str]) -> int:
        """Forgets these, and says how many there are."""
        return self._leave(tx, among(tx, self._found.c.session_id, session_ids))

    def parts(self, tx: Connection) -> int:
        """How many sessions were not read whole, whether they differ or not."""
        if not self._partial:
            return 0
        return tx.execute(select(func.count()).select_from(self._parts().distinct().subquery())).scalar_one()

    def sessions(self, tx: Connection) -> int:
        return tx.execute(select(func.count(self._found.c.session_id.distinct()))).scalar_one()

    def changes(self, tx: Connection, session_id: str | None = None) -> list[Change]:
        """By table, of those that differ."""
        it = self._found.c
        query = select(it.book, it.change, func.sum(it.rows)).group_by(it.book, it.change)
        if session_id is not None:
            query = query.where(it.session_id == session_id)
        rows: dict[str, dict[str, int]] = {}
        for book, change, count in tx.execute(query):
            rows.setdefault(book, {})[change] = int(count)
        return [Change(book.name, **rows[book.name]) for book in self._books if book.name in rows]

    def totals(self, tx: Connection) -> list[Total]:
        """Of whole tables: what does not differ is in both sums."""
        found = []
        differing = select(self._found.c.session_id)
        for book in self._books:
            before = self._sums(tx, book, book.table, true())
            of_differing = [
                self._sums(tx, book, table, table.c.session_id.in_(differing)) for table in self._both(book)
            ]
            found += list(_totals(book, before, *of_differing))
        return found

    def first(self, tx: Connection, limit: int) -> list[Differing]:
        it = self._found.c
        ids = tx.scalars(select(it.session_id).distinct().order_by(it.session_id).limit(limit)).all()
        return [Differing(session_id, self.changes(tx, session_id), self._of_one(tx, session_id)) for session_id in ids]

    def _of_one(self, tx: Connection, session_id: str) -> list[Total]:
        found = []
        for book in self._books:
            live, anew = (self._sums(tx, book, table, table.c.session_id == session_id) for table in self._both(book))
            found += [it for it in _totals(book, live, live, anew) if it.before_micros != it.after_micros]
        return found

    def _both(self, book: Book) -> tuple[Table, FromClause]:
        return book.table, dark(self._shadow, book.table)

    def _sums(self, tx: Connection, book: Book, table: FromClause, where: ColumnElement[bool]) -> dict[str, int]:
        if book.money is None:
            return {}
        amount, by = (table.c[column.name] for column in book.money)
        rows = tx.execute(select(by, func.coalesce(func.sum(amount), 0)).where(where).group_by(by))
        return {of: int(total) for of, total in rows}

    def _queries(self, book: Book) -> Iterator[Select[Any]]:
        """What to insert into `differences`, by kind."""
        live, anew = self._both(book)
        same_key = and_(*(live.c[name] == anew.c[name] for name in book.key))
        mine = _of_consumer(live, self._shadow.consumer)
        if self._partial:  # what the shadow has never heard of is nobody's word
            mine &= live.c.session_id.in_(select(dark(self._shadow, sessions).c.session_id))
        yield _counted(anew, book, "added").where(~exists().where(same_key))
        yield _counted(live, book, "removed").where(mine, ~exists().where(same_key))
        if book.compared:
            other = or_(*(live.c[name].is_distinct_from(anew.c[name]) for name in book.compared))
            yield _in_both(live, anew, same_key, book).where(mine, other)

    def _forget(self, tx: Connection, only: set[str] | None) -> None:
        statement = delete(self._found)
        tx.execute(statement if only is None else statement.where(among(tx, self._found.c.session_id, only)))

    def _leave(self, tx: Connection, those: ColumnElement[bool]) -> int:
        count = tx.execute(select(func.count(self._found.c.session_id.distinct())).where(those)).scalar_one()
        tx.execute(delete(self._found).where(those))
        return count

    def _parts(self) -> Select[Any]:
        """Sessions with an event that was not read here, or not at its first arrival."""
        read = self._shadow.of(seen)
        at_first = (read.c.event_id == revisions.c.event_id) & (read.c.received_at <= revisions.c.received_at)
        mine = revisions.c.consumer == self._shadow.consumer
        return select(revisions.c.session_id).where(mine, ~exists().where(at_first))


def dark(shadow: Shadow, table: Table) -> FromClause:
    """The shadow's table, under a name of its own: two of one name, in two schemas, confuse SQLAlchemy."""
    return shadow.of(table).alias("anew")


def _in_both(live: Table, anew: FromClause, same_key: ColumnElement[bool], book: Book) -> Select[Any]:
    joined = select(live.c.session_id, literal(book.name), literal("changed"), func.count())
    return joined.select_from(live.join(anew, same_key)).group_by(live.c.session_id)


def _counted(table: FromClause, book: Book, change: str) -> Select[Any]:
    rows = select(table.c.session_id, literal(book.name), literal(change), func.count())
    return rows.select_from(table).group_by(table.c.session_id)


def _of_consumer(table: Table, consumer: str) -> ColumnElement[bool]:
    return table.c.consumer == consumer if "consumer" in table.c else true()


def _totals(book: Book, before: dict[str, int], live: dict[str, int], anew: dict[str, int]) -> Iterator[Total]:
    for of in sorted(before.keys() | anew.keys()):
        was = before.get(of, 0)
        yield Total(book.name, of, was, was - live.get(of, 0) + anew.get(of, 0))
