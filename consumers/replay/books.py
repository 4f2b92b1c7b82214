"""What a replay builds anew: of each consumer its class, and its tables as a comparison and a swap see them."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Column, Table

from consumers.call_log import CallLog
from consumers.recordings import consumer as recordings_consumer
from consumers.tables import (
    billing_entries,
    call_log,
    plan_charges,
    plan_terms,
    recordings,
    revisions,
    sessions,
    transcripts,
)
from schemas.topics import CALLS_ENDED, Topic


def _replaced(table: Table) -> Callable[[Any], Mapping[str, Any]]:
    return lambda new: {column.name: new[column.name] for column in table.c if not column.primary_key}


class Book(msgspec.Struct, frozen=True):
    """A table with a row's session in `session_id`.

    `said` are the columns that follow from the log; by default all that are not of the key. `merged` says what becomes
    of a row when the log says something new of it: the columns to set, by name, given the new row. `money` is the
    column of the amounts, and that by which they are added up.
    """

    table: Table
    said: tuple[str, ...] = ()
    merged: Callable[[Any], Mapping[str, Any]] | None = None
    money: tuple[Column[int], Column[str]] | None = None

    @property
    def name(self) -> str:
        return str(self.table.name)

    @property
    def key(self) -> list[str]:
        return [column.name for column in self.table.primary_key]

    @property
    def compared(self) -> list[str]:
        return list(self.said) or [column.name for column in self.table.c if not column.primary_key]

    def set_by(self, new: Any) -> Mapping[str, Any]:
        return (self.merged or _replaced(self.table))(new)


class Books(msgspec.Struct, frozen=True):
    """A consumer's. Tables of `books` come before those that refer to them; `shared` ones have rows that others of the
    consumer refer to, and none that a session owns: rows are added to them and never taken away."""

    topics: tuple[Topic, ...]
    books: tuple[Book, ...]
    shared: tuple[Table, ...] = ()

    @property
    def tables(self) -> list[Table]:
        return [*self.shared, *(book.table for book in self.books)]


_KNOWN = (Book(sessions), Book(revisions))

BOOKS: Mapping[str, Books] = {
    "billing": Books(
        (CALLS_ENDED,),
        (
            *_KNOWN,
            Book(billing_entries, money=(billing_entries.c.amount_micros, billing_entries.c.kind)),
            Book(plan_charges, money=(plan_charges.c.amount_micros, plan_charges.c.currency)),
        ),
        shared=(plan_terms,),
    ),
    "transcripts": Books((CALLS_ENDED,), (*_KNOWN, Book(transcripts))),
    # What has become of the work is not the log's to say: a sound is fetched once.
    "recordings": Books(
        (CALLS_ENDED,),
        (*_KNOWN, Book(recordings, said=recordings_consumer.SAID, merged=recordings_consumer.merged)),
    ),
    "calls": Books(CallLog.topics, (*_KNOWN, Book(call_log))),
}
