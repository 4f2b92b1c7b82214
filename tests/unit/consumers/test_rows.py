"""Rows by the batch come to what they come to one by one."""

from array import array
from typing import Any

import pytest
from sqlalchemy import Engine, Table, insert, select
from sqlalchemy.exc import IntegrityError

from consumers.rows import among, insert_new, insert_rows, upsert
from consumers.tables import billing_entries, outbox, positions, revisions, sessions, transcripts

TEXTS = ("", "plain", 'a"b\\c{d},e\nf', "NULL", "漢 😀", "\ufffd", " ")


def rows_of(engine: Engine, table: Table) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key))]


def both_ways(engine: Engine, table: Table, rows: list[dict[str, Any]]) -> None:
    with engine.begin() as tx:
        tx.execute(insert(table), rows)
    one_by_one = rows_of(engine, table)
    with engine.begin() as tx:
        tx.execute(table.delete())
        insert_rows(tx, table, rows)
    assert rows_of(engine, table) == one_by_one
    assert len(one_by_one) == len(rows)


def transcript(session_id: str, **more: Any) -> dict[str, Any]:
    known = {"event_id": "e", "received_at": 1, "caller_id": "c", "chat_state": "ok", "turns": 0}
    functions = {"function_calls_state": "none", "function_calls": 0}
    nothing = dict.fromkeys(("agent_id", "status", "original_status", "started_at", "duration_ms", "original_chat"))
    return {"session_id": session_id, **known, **functions, **nothing, **more}


def test_every_text_and_number_comes_back_as_it_was(engine: Engine) -> None:
    numbers = (0, -1, 1 << 15, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63))
    entry = {"kind": "charge", "agent_id": None, "caller_id": "c", "received_at": 1, "provider": "p", "type": "t"}
    rows = [
        {"session_id": f"s{n}", "event_id": text, "amount_micros": number, **entry}
        for n, (text, number) in enumerate(zip(TEXTS, numbers, strict=True))
    ]
    both_ways(engine, billing_entries, rows)


def test_text_is_text_whatever_encoding_the_environment_names(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    both_ways(engine, sessions, [{"consumer": "c", "session_id": text} for text in TEXTS])


def test_bytes_come_back_as_they_were(engine: Engine) -> None:
    contents = (b"", b"\0\xff", bytes(range(256)) * 100)
    key = {"consumer": "c", "session_id": "s", "received_at": 1}
    both_ways(engine, revisions, [{**key, "event_id": str(n), "content": it} for n, it in enumerate(contents)])


def test_what_is_not_known_is_null_in_some_rows_and_in_all(engine: Engine) -> None:
    some = [transcript(f"s{n}", started_at=n or None, status=None if n % 2 else "x") for n in range(5)]
    both_ways(engine, transcripts, some)
    with engine.begin() as tx:
        tx.execute(transcripts.delete())
    both_ways(engine, transcripts, [transcript(f"s{n}") for n in range(5)])


def test_lists_of_words_of_any_length_are_those_of_their_rows(engine: Engine) -> None:
    """Numbers where they are numbers: PostgreSQL has arrays for them, and none of different lengths side by side."""
    lists: list[Any] = [array("i", [n - 5 for n in range(length)]) for length in (0, 3, 1, 0, 500, 2)]
    if engine.dialect.name == "sqlite":
        lists = [" ".join(map(str, some)) for some in lists]
    both_ways(engine, transcripts, [transcript(f"s{n}", words=words) for n, words in enumerate(lists)])
    with engine.begin() as tx:
        tx.execute(transcripts.delete())
    both_ways(engine, transcripts, [transcript(f"s{n}", words=lists[0]) for n in range(3)])


def test_serial_numbers_follow_the_order_of_the_rows(engine: Engine) -> None:
    names = [f"{n * 7919 % 1000:03}" for n in range(1000)]
    with engine.begin() as tx:
        insert_rows(tx, outbox, [{"consumer": name, "events": 1, "packed": b""} for name in names])
    with engine.connect() as tx:
        assert list(tx.scalars(select(outbox.c.consumer).order_by(outbox.c.id))) == names


def test_a_row_that_is_there_is_an_error_or_is_replaced(engine: Engine) -> None:
    def row(id_: str, at: int, content: bytes) -> dict[str, Any]:
        key = {"consumer": "c", "session_id": "s", "event_id": id_}
        return {**key, "received_at": at, "content": content, "recovered": False}

    old, new = [row("a", 1, b"A"), row("b", 1, b"B")], [row("b", 2, b"Z"), row("c", 2, b"C")]
    with engine.begin() as tx:
        insert_rows(tx, revisions, old)
    with pytest.raises(IntegrityError), engine.begin() as tx:
        insert_rows(tx, revisions, new)
    with engine.begin() as tx:
        insert_rows(tx, revisions, new, replacing=["content"])
    assert rows_of(engine, revisions) == [
        ("c", "s", "a", 1, b"A", False),
        ("c", "s", "b", 1, b"Z", False),
        ("c", "s", "c", 2, b"C", False),
    ]


def test_an_upsert_writes_new_values_over_old_ones(engine: Engine) -> None:
    def row(partition: int, offset: int) -> dict[str, object]:
        where = {"consumer": "c", "topic": "t", "partition": partition}
        return {**where, "next_offset": offset, "cluster_id": "k"}

    with engine.begin() as tx:
        upsert(tx, positions, [row(0, 1), row(1, 1)])
        upsert(tx, positions, [row(1, 2), row(2, 2)])
        upsert(tx, positions, [])
        upsert(tx, sessions, [{"consumer": "c", "session_id": "s"}] * 2)
    with engine.connect() as tx:
        assert tx.execute(select(positions.c.next_offset).order_by(positions.c.partition)).scalars().all() == [1, 2, 2]
        assert len(tx.execute(select(sessions)).all()) == 1


def test_no_rows_are_no_statement(engine: Engine) -> None:
    with engine.begin() as tx:
        insert_rows(tx, sessions, [])
    assert rows_of(engine, sessions) == []


def test_among_any_number_of_texts(engine: Engine) -> None:
    there = [*TEXTS, *(f"s{n}" for n in range(40_000))]  # more than any statement has parameters
    with engine.begin() as tx:
        insert_rows(tx, sessions, [{"consumer": "c", "session_id": it} for it in there])

    def found(wanted: list[str]) -> set[str]:
        with engine.connect() as tx:
            return set(tx.scalars(select(sessions.c.session_id).where(among(tx, sessions.c.session_id, wanted))))

    assert found([]) == set()
    assert found(["nobody"]) == set()
    for text in TEXTS:
        assert found([text, "nobody"]) == {text}
    assert found(there) == set(there)


def test_only_what_is_not_there_is_inserted_and_told(engine: Engine) -> None:
    def rows(*ids: str) -> list[dict[str, Any]]:
        return [{"consumer": "c", "session_id": id_} for id_ in ids]

    with engine.begin() as tx:
        assert insert_new(tx, sessions, [], sessions.c.session_id) == []
        assert insert_new(tx, sessions, rows("b", "a"), sessions.c.session_id) == ["b", "a"]
        assert sorted(insert_new(tx, sessions, rows("a", "c", "b", "d"), sessions.c.session_id)) == ["c", "d"]
    assert [id_ for _, id_ in rows_of(engine, sessions)] == ["a", "b", "c", "d"]
