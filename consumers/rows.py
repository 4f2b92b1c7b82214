"""Rows, written and looked for.

What a batch writes goes by `insert_rows`, or by `insert_new` where what is there stays: one statement, however many
rows they are. A few rows that replace what is there, whatever it is, go by `upsert`. Where the row that is there has a
say in what becomes of it, `insert` begins a statement of one's own.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Select,
    Table,
    TextClause,
    any_,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from consumers.arrays import array_of, arrays_of
from consumers.tables import Words

Insert = postgresql.Insert | sqlite.Insert


def insert_rows(
    tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, replacing: Sequence[str] = ()
) -> None:
    """Inserts the rows, in their order, all with the same columns.

    With `replacing`, a row whose primary key is there already gets these columns of the new one, and is locked; no two
    of the rows may have the same key then. Without, the database raises `IntegrityError`.
    """
    if not rows:
        return
    names = tuple(rows[0])
    tx.execute(_insert(tx.dialect.name, table, names, tuple(replacing)), _parameters(tx, table, rows, names))


def insert_new(tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]], told: ColumnElement[Any]) -> list[Any]:
    """As `insert_rows`, but a row whose primary key is there already is left as it is, and not locked; where another
    transaction is about to insert it, or has it locked, its end is waited for. Returns `told` of those that were
    inserted.
    """
    if not rows:
        return []
    names = tuple(rows[0])
    statement = _insert(tx.dialect.name, table, names, None).returning(told)
    return list(tx.scalars(statement, _parameters(tx, table, rows, names)))


def insert(tx: Connection, table: Table) -> Insert:
    """`INSERT` with the `on_conflict_do_update` and `on_conflict_do_nothing` of this connection's database."""
    return sqlite.insert(table) if tx.dialect.name == "sqlite" else postgresql.insert(table)


def upsert(tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows, all with the same columns; one whose primary key is there already gets the new values."""
    if not rows:
        return
    statement = insert(tx, table)
    key = [column.name for column in table.primary_key]
    new = {name: statement.excluded[name] for name in rows[0] if name not in key}
    if new:
        statement = statement.on_conflict_do_update(index_elements=key, set_=new)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=key)
    tx.execute(statement, [dict(row) for row in rows])


def among(tx: Connection, of: ColumnElement[Any], values: Iterable[str] | Iterable[int]) -> ColumnElement[bool]:
    """Whether the column has one of the values: one parameter, however many they are."""
    wanted = list(values)
    if tx.dialect.name == "postgresql":
        return of == any_(bindparam(None, wanted, type_=ARRAY(of.type)))
    return of.in_(select(func.json_each(json.dumps(wanted)).table_valued("value").c.value))


def _parameters(tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    if tx.dialect.name != "postgresql":
        return rows
    arrays: dict[str, Any] = {}
    for name in names:
        type_, values = table.c[name].type, [row[name] for row in rows]
        if isinstance(type_, Words):
            arrays |= zip(_of_lists(name), arrays_of(values), strict=True)
        else:
            arrays[name] = array_of(type_, values)
    return arrays


@functools.lru_cache(maxsize=256)  # to put one together takes as long as to insert a hundred rows
def _insert(dialect: str, table: Table, names: tuple[str, ...], replacing: tuple[str, ...] | None) -> Insert:
    """`replacing` None: what is there stays."""
    statement: Insert = sqlite.insert(table)
    if dialect == "postgresql":
        statement = postgresql.insert(table).from_select(names, _unnested(table, names))
    if replacing is None:
        return statement.on_conflict_do_nothing()
    if replacing:
        new = {name: statement.excluded[name] for name in replacing}
        statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new)
    return statement


def _unnested(table: Table, names: Sequence[str]) -> Select[Any]:
    """One array a column, so that the statement is the same for any number of rows. SQLite takes rows one by one,
    which costs little within a process; over a connection it is most of what a small row costs.

    In the list of what is selected, arrays are taken apart side by side, and rows come in their order: it is that of
    locks, and of serial numbers. As a table, PostgreSQL keeps each array's items and then the rows before it goes on.
    """
    return select(*(_items(name, table.c[name].type) for name in names))


def _items(name: str, type_: TypeEngine[Any]) -> ColumnElement[Any] | TextClause:
    """Of the array of a column. Arrays of arrays have no place for lists of different lengths: these lie in one, one
    after the other, and are cut out of it."""
    if isinstance(type_, Words):
        items, begin, end = (f":{part}" for part in _of_lists(name))
        return text(f"({items})[unnest({begin}) \\: unnest({end})]")
    return func.unnest(bindparam(name), type_=type_).label(name)


def _of_lists(name: str) -> tuple[str, str, str]:
    return f"{name}_items", f"{name}_begin", f"{name}_end"
