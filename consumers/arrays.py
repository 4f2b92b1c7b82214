"""Columns of rows as PostgreSQL's arrays, in its binary format.

psycopg can do it too. But its lists may hold anything: it looks at the type of each item and calls a dumper for each,
which was a quarter of what the rows of a batch cost.

Source: PostgreSQL, `array_send`: the number of dimensions, whether there is a null, the type of the items; of the
dimension its length and where it begins; and the items, each after its length, which is -1 for a null.
"""

import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from psycopg import AsyncConnection, Connection, postgres
from psycopg.abc import DumperKey
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format
from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Text
from sqlalchemy.types import TypeEngine

_head = struct.Struct("!iiIii").pack
_empty_head = struct.Struct("!iiI").pack
_length = struct.Struct("!i").pack
_NULL = _length(-1)

_Items = Callable[[Sequence[Any]], list[bytes]]


class Array:
    """As it is sent. `oid` is that of its type in PostgreSQL."""

    __slots__ = ("oid", "sent")

    def __init__(self, oid: int, sent: bytes) -> None:
        self.oid = oid
        self.sent = sent


def array_of(type_: TypeEngine[Any], values: Sequence[Any]) -> Array:
    """Of values of a column of that type, or None for null. They are one at least.

    Raises `struct.error` for a number that the type can't hold, and `UnicodeEncodeError` for a lone surrogate.
    """
    name, items = _KNOWN[type(type_)]
    item = postgres.types[name]
    head = _head(1, None in values, item.oid, len(values), 1)
    return Array(item.array_oid, head + b"".join(items(values)))


def arrays_of(lists: "Sequence[array[int]]") -> tuple[Array, Array, Array]:
    """Of lists of integers of 32 bits, as `array("i")` has them: all items, one after the other, and where each list
    begins and ends among them, counted from one. They are one at least."""
    items = array("i")
    begins, ends = [], []
    for one in lists:
        begins.append(len(items) + 1)
        items += one
        ends.append(len(items))
    sent = array("i", [4]) * (2 * len(items))  # each after its length
    sent[1::2] = items
    if sys.byteorder == "little":
        sent.byteswap()
    number = postgres.types["int4"]
    head = _head(1, 0, number.oid, len(items), 1) if items else _empty_head(0, 0, number.oid)
    all_items = Array(number.array_oid, head + sent.tobytes())
    return all_items, array_of(Integer(), begins), array_of(Integer(), ends)


def use_arrays(connection: Connection | AsyncConnection) -> None:
    """Lets it take an `Array` as a parameter. Its encoding must be UTF-8."""
    connection.adapters.register_dumper(Array, _ArrayDumper)


class _ArrayDumper(Dumper):
    """There is nothing left to be done. psycopg keeps one for each `oid`."""

    format = Format.BINARY

    def get_key(self, obj: Array, format: PyFormat) -> DumperKey:
        return (self.cls, obj.oid)  # type: ignore[return-value]  # whatever tells them apart

    def upgrade(self, obj: Array, format: PyFormat) -> "_ArrayDumper":
        dumper = _ArrayDumper(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Array) -> bytes:
        return obj.sent


def _texts(values: Sequence[str | None]) -> list[bytes]:
    return _bytes([None if value is None else value.encode() for value in values])


def _bytes(values: Sequence[bytes | None]) -> list[bytes]:
    items: list[bytes] = []
    for value in values:
        items += (_NULL,) if value is None else (_length(len(value)), value)
    return items


def _numbers(format_: str) -> _Items:
    number = struct.Struct(f"!i{format_}")
    size, pack = number.size - 4, number.pack
    return lambda values: [_NULL if value is None else pack(size, value) for value in values]


# The types of our tables' columns.
_KNOWN: dict[type[TypeEngine[Any]], tuple[str, _Items]] = {
    Text: ("text", _texts),
    LargeBinary: ("bytea", _bytes),
    Integer: ("int4", _numbers("i")),
    BigInteger: ("int8", _numbers("q")),
    Boolean: ("bool", _numbers("?")),
}
