"""A store as others read it: whole, at one moment, copied, dumped, compared."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from state.comparison import Difference, differences
from state.dump import described, digest_of, lines_of
from state.layout import About, Damaged
from state.room import Room
from state.scratch import scratch_in
from state.store import ProfileStore
from state.view import NoStore, Row, copy_store, view_of
from tests.unit.state.events import Event, ended, ended_raw, fact, no_fact, prefetched, slices_of

LOG = (
    prefetched("s1", "ann", 1),
    ended("s1", "ann", 2, ts=100.5, duration=61.5, cost_breakdown=[{"credit": 0.0043}], metadata={"b": 1.0, "a": 1}),
    ended_raw("s1", "ann", b"{}", 9, recovered=True),
    ended("s2", "bob", 3, ts=7),
    fact("ann", "tier", "gold"),
    fact("ann", "vip", True),
)


def store_of(path: Path, *log: Event) -> Path:
    """The directory of a store after the log."""
    store = ProfileStore(path)
    store.fold(slices_of(log))
    store.set_about(About("cluster/", True, 1))
    store.close()
    return store.path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return store_of(tmp_path / "one", *LOG)


def rows_of(path: Path) -> list[Row]:
    with view_of(path) as view:
        return list(view.rows())


def test_view_has_the_rows_of_the_store(path: Path, tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "two")
    store.fold(slices_of(LOG))
    dumped = list(store.dump())
    store.close()
    assert rows_of(path) == dumped
    with view_of(path) as view:
        assert view.entries() == {"profiles": 2, "sessions": 2, "calls": 2}
        assert view.about() == About("cluster/", True, 1)
        assert view.positions() == {("callers.facts", 0): 6, ("calls.ended", 0): 6, ("calls.prefetch", 0): 6}


def test_lines_say_all_that_a_row_holds(path: Path) -> None:
    lines = [json.loads(line) for line in lines_of(rows_of(path))]
    ann = next(line for line in lines if line["database"] == "profiles" and line["caller"] == "ann")
    assert (ann["facts"], ann["calls"], ann["cost_micros"], ann["duration_ms"]) == (
        {"tier": "gold", "vip": True},
        1,
        4300,
        61_500,
    )
    session = next(line for line in lines if line.get("session") == ann["last_session"])
    assert [revision["recovered"] for revision in session["revisions"]] == [True, False]
    assert session["revisions"][1]["metadata"] == {"b": 1.0, "a": 1}
    assert session["prefetch"]["received_at"] == 1
    assert {"database": "calls", "caller": "ann", "session": ann["last_session"]} in lines
    assert {"database": "meta", "topic": "calls.ended", "partition": 0, "next_offset": 6} in lines


def test_lines_tell_integers_from_floats_and_keep_the_order_of_metadata(path: Path) -> None:
    text = b"\n".join(lines_of(rows_of(path)))
    assert b'"metadata":{"b":1.0,"a":1}' in text


def test_digest_is_what_sha256sum_says_of_the_dump(path: Path) -> None:
    lines = b"".join(line + b"\n" for line in lines_of(rows_of(path)))
    assert digest_of(rows_of(path)) == hashlib.sha256(lines).hexdigest()


def test_digest_changes_with_a_position_and_with_a_fact_and_not_with_the_order(tmp_path: Path, path: Path) -> None:
    digest = digest_of(rows_of(path))
    other_order = store_of(tmp_path / "order", *LOG[3::-1], *LOG[4:])
    assert digest_of(rows_of(other_order)) == digest
    one_more = store_of(tmp_path / "position", *LOG, Event("calls.ended", b"k", b"unreadable"))
    another_fact = store_of(tmp_path / "fact", *LOG[:-1], fact("ann", "vip", 1))
    assert len({digest, digest_of(rows_of(one_more)), digest_of(rows_of(another_fact))}) == 3


def test_row_that_is_damaged_is_not_described(path: Path) -> None:
    database, key, value = rows_of(path)[0]
    spoilt = bytes((value[0], value[1] ^ 1)) + value[2:]
    with pytest.raises(Damaged):
        described((database, key, spoilt))


def test_copy_is_the_store_of_one_moment_and_opens_as_one(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    copy_store(path, copy, Room(tmp_path, tmp_path / "spool", 0))
    assert rows_of(copy) == rows_of(path)


def test_store_of_a_caller_with_very_many_calls_is_copied(tmp_path: Path) -> None:
    path = store_of(tmp_path / "many", *(ended(f"s{n}", "ann", n) for n in range(300)))
    copy = tmp_path / "copy"
    copy.mkdir()
    copy_store(path, copy, Room(tmp_path, tmp_path / "spool", 0))
    assert rows_of(copy) == rows_of(path)
    with view_of(copy) as view:
        assert sum(1 for _ in view.sessions_of(b"ann")) == 300


def test_folder_without_a_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoStore, match="There is no state store"), view_of(tmp_path / "nowhere"):
        pass


def test_file_that_is_no_store_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database" * 10_000)
    with pytest.raises(Damaged), view_of(tmp_path):
        pass


def differing(one: Sequence[Row], other: Sequence[Row], unknown: dict[bytes, set[str]]) -> list[Difference]:
    return [it for it in differences(iter(one), iter(other), unknown) if it is not None]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (LOG, []),
        ((*LOG, prefetched("s3", "cat", 5)), [("profiles", "cat"), ("sessions", None)]),
        (LOG[:3] + LOG[4:], [("profiles", "bob"), ("sessions", None), ("calls", "bob")]),
        ((*LOG, fact("ann", "tier", "tin")), [("profiles", "ann")]),
    ],
)
def test_differences_name_the_rows(path: Path, tmp_path: Path, log: Any, expected: list[tuple[str, str]]) -> None:
    other = store_of(tmp_path / "other", *log)
    found = differing(_without_positions(path), _without_positions(other), {})
    assert [it.database for it in found] == [database for database, _ in expected]
    assert all(key in (None, it.key) for it, (_, key) in zip(found, expected, strict=True))


def test_facts_of_which_nothing_can_be_said_are_not_compared(path: Path, tmp_path: Path) -> None:
    other = store_of(tmp_path / "other", *LOG, no_fact("ann", "tier"), fact("cat", "new", 1))
    rows = _without_positions(path), _without_positions(other)
    assert differing(*rows, {b"ann": {"tier"}, b"cat": {"new"}}) == []
    assert [it.key for it in differing(*rows, {b"ann": {"tier"}})] == ["cat"]
    assert [it.key for it in differing(*rows, {b"ann": {"vip"}, b"cat": {"new"}})] == ["ann"]


def test_damaged_value_is_a_difference_that_says_so(path: Path) -> None:
    rows = rows_of(path)
    database, key, value = rows[0]
    rows[0] = (database, key, value[:-1] + bytes((value[-1] ^ 1,)))
    (found,) = differing(rows, rows_of(path), {})
    assert found.live == {"database": "profiles", "damaged": "a value does not match its checksum"}
    assert found.rebuilt is not None
    assert found.rebuilt["caller"] == found.key


def test_scratch_of_a_process_that_was_killed_is_removed_and_that_of_another_is_not(tmp_path: Path) -> None:
    left = tmp_path / "scratch-left"
    left.mkdir()
    (left / "data.mdb").touch()
    with scratch_in(tmp_path) as one:
        assert not left.exists()
        with scratch_in(tmp_path) as other:
            assert one.exists()
            assert one != other
        assert not other.exists()
    assert list(tmp_path.iterdir()) == []


def _without_positions(path: Path) -> list[Row]:
    return [row for row in rows_of(path) if row[0] != "meta"]
