"""LMDB's file, read without LMDB: whether its pages are what LMDB relies on.

LMDB trusts its file. What it reads from a damaged one may kill the process, and what it writes there next may destroy
what is sound: a page in use that is listed as free is used again. `lmdb.verify` finds the same in any kind of
database; this knows those that are in a spool, and is several times as fast.

The format is LMDB 0.9's on a machine with words of 64 bits: `mdb.c`, `MDB_page`, `MDB_node`, `MDB_db`, `MDB_meta`.
"""

import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from service.journal.spool_errors import SpoolDamaged

_PAGE = struct.Struct("=Q2xHHH")  # number, flags, lower, upper: where nodes lie stands from the head to `lower`
_LARGE_PAGE = struct.Struct("=Q2xHI")  # number, flags, pages: of a value that has pages of its own
_NODE = struct.Struct("=HHHH")  # the value's size, low and high, flags, the key's size; of a branch 48 bits of a page
_NUMBER = struct.Struct("=Q")
_META = struct.Struct("=16xIIQQ48s48sQQ")  # magic, version, address, map, free pages, unnamed, last page, commit
_DATABASE = struct.Struct("=IHHQQQQQ")

_HEAD_BYTES = 16
_META_PAGES = 2
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _LARGE, _META_FLAG = 1, 2, 4, 8
_LARGE_VALUE, _NAMED = 1, 2  # of a node
_INTEGER_KEYS = 8
_NO_ROOT = 2**64 - 1


class Database(NamedTuple):
    """As LMDB counts it. `pad` of the free pages' one is the size of a page."""

    pad: int
    flags: int
    depth: int
    branches: int
    leaves: int
    large: int
    entries: int
    root: int


Item = tuple[bytes, bytes | memoryview, bool]  # key, value, and whether the value is a database


class Tree:
    """The last commit. What is wrong raises `SpoolDamaged`; what leads beyond the end `struct.error` or `IndexError`.

    When `items` of every database and then `finish` have gone to their ends, each page was met exactly once.
    """

    def __init__(self, file: memoryview) -> None:
        self._free, self.unnamed, last, self.commit = _last_commit(file)
        self._file = file
        self.page_bytes = self._free.pad
        self._last = last
        self._used: defaultdict[int, list[int]] = defaultdict(list)  # how many pages in a row -> where they begin

    def items(self, database: Database) -> Iterator[Item]:
        """In the order of their keys."""
        if database.flags:
            raise SpoolDamaged(f"a database has the flags {database.flags:#x}")
        return chain.from_iterable(_Walk(self, database).leaves())

    def finish(self) -> None:
        """No page may be in use twice, or in use and free, or neither."""
        free: list[int] = []
        for key, value, _ in chain.from_iterable(_Walk(self, self._free).leaves()):
            if not 0 < _NUMBER.unpack(key)[0] <= self.commit:
                raise SpoolDamaged("free pages are of a commit that never was")
            count, *pages = struct.unpack(f"={len(value) // 8}Q", value)
            if count != len(pages) or sorted(pages, reverse=True) != pages:
                raise SpoolDamaged("a list of free pages is not in order")
            free += pages
        used: list[int] = list(range(_META_PAGES))
        for count, firsts in self._used.items():
            for offset in range(count):
                used += map(offset.__add__, firsts)
        if max(used) >= len(self._file) // self.page_bytes:  # of those that are free some may be missing
            raise SpoolDamaged("it ends within what is in use")
        # The last page's number may be as damaged as any: first it must be as large as the lists are long.
        if len(used) + len(free) != self._last + 1 or sorted(used + free) != list(range(self._last + 1)):
            raise SpoolDamaged("some pages are in use twice, or in use and free, or neither")

    def page(self, number: int) -> bytes:
        self._used[1].append(number)
        at = number * self.page_bytes
        return bytes(self._file[at : at + self.page_bytes])

    def large(self, number: int, size: int) -> tuple[memoryview, int]:
        """A value of that many bytes, and how many pages are its own."""
        count = (_HEAD_BYTES - 1 + size) // self.page_bytes + 1
        self._used[count].append(number)
        at = number * self.page_bytes
        if _LARGE_PAGE.unpack_from(self._file, at) != (number, _LARGE, count):
            raise SpoolDamaged(f"page {number} is not where that value should be")
        at += _HEAD_BYTES
        return self._file[at : at + size], count


class _Walk:
    """Through one database, from its root."""

    def __init__(self, tree: Tree, database: Database) -> None:
        self._tree = tree
        self._database = database
        self._branches = self._leaves = self._large = self._entries = 0
        self._before = b""  # all keys that come; LMDB has none that is empty
        self._from = b""  # the first that may come
        self._is_free = database.flags == _INTEGER_KEYS

    def leaves(self) -> Iterator[list[Item]]:
        said = self._database
        if said.root != _NO_ROOT:
            yield from self._below(said.root, 1)
        counted = (self._branches, self._leaves, self._large, self._entries)
        if counted != said[3:7] or (said.root == _NO_ROOT) != (said.depth == 0):
            raise SpoolDamaged(f"there are {counted} branches, leaves, large pages and entries, and not {said[3:7]}")

    def _below(self, number: int, depth: int) -> Iterator[list[Item]]:
        page = self._tree.page(number)
        found, flags, lower, upper = _PAGE.unpack_from(page)
        if found != number or flags != (_LEAF if depth == self._database.depth else _BRANCH):
            raise SpoolDamaged(f"page {number} is none that belongs there")
        nodes = struct.unpack_from(f"={(lower - _HEAD_BYTES) // 2}H", page, _HEAD_BYTES)
        if not lower <= upper <= min(nodes, default=0):
            raise SpoolDamaged(f"page {number} has a wrong head")
        if flags == _LEAF:
            yield self._leaf(page, nodes)
        else:
            yield from self._branch(page, nodes, depth)

    def _branch(self, page: bytes, nodes: tuple[int, ...], depth: int) -> Iterator[list[Item]]:
        self._branches += 1
        for index, node in enumerate(nodes):
            low, middle, high, key_bytes = _NODE.unpack_from(page, node)
            if index:  # the first leads to all keys that are less
                start = node + _NODE.size
                self._from = self._rank(page[start : start + key_bytes])
                if self._from <= self._before:
                    raise SpoolDamaged("a branch leads to the wrong place")
            yield from self._below(low | middle << 16 | high << 32, depth + 1)

    def _leaf(self, page: bytes, nodes: tuple[int, ...]) -> list[Item]:
        items: list[Item] = []
        before = self._before
        for node in nodes:
            low, high, flags, key_bytes = _NODE.unpack_from(page, node)
            start = node + _NODE.size
            at, size = start + key_bytes, low | high << 16
            key = page[start:at]
            rank = self._rank(key) if self._is_free else key
            if rank <= before:
                raise SpoolDamaged("keys are not in order")
            before = rank
            if flags == _LARGE_VALUE:
                value, pages = self._tree.large(_NUMBER.unpack_from(page, at)[0], size)
                self._large += pages
                items.append((key, value, False))
            elif flags in {0, _NAMED} and at + size <= len(page):
                items.append((key, page[at : at + size], flags == _NAMED))
            else:
                raise SpoolDamaged("a node is none that belongs there")
        if self._rank(items[0][0]) < self._from:
            raise SpoolDamaged("a branch leads to the wrong place")
        self._leaves += 1
        self._entries += len(items)
        self._before = before
        return items

    def _rank(self, key: bytes) -> bytes:
        """Sorts as LMDB sorts the key."""
        return key[::-1] if self._is_free and sys.byteorder == "little" else key


def _last_commit(file: memoryview) -> tuple[Database, Database, int, int]:
    """The free pages' database, the unnamed one, the last page and the commit's number."""
    first = _meta(file, 0)
    metas = (first, _meta(file[first[0].pad :], 1))
    if metas[0][0].pad != metas[1][0].pad:
        raise SpoolDamaged("its first two pages differ on how large a page is")
    for slot, (free, unnamed, _, commit) in enumerate(metas):
        if commit and commit % 2 != slot:
            raise SpoolDamaged(f"commit {commit} stands where another one should")
        if free.flags != _INTEGER_KEYS or unnamed.pad:
            raise SpoolDamaged(f"commit {commit} has wrong databases")
    return max(metas, key=lambda meta: meta[3])


def _meta(file: memoryview, number: int) -> tuple[Database, Database, int, int]:
    found, flags, _, _ = _PAGE.unpack_from(file)
    magic, version, _, _, free, unnamed, last, commit = _META.unpack_from(file)
    if (found, flags, magic, version) != (number, _META_FLAG, _MAGIC, _VERSION):
        raise SpoolDamaged(f"page {number} is not what an LMDB file begins with")
    return database_of(free), database_of(unnamed), last, commit


def database_of(packed: bytes | memoryview) -> Database:
    return Database(*_DATABASE.unpack(packed))
