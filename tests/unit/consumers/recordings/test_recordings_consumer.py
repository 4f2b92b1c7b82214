"""The rows of work follow from the set of events: on both databases, in any order, with any duplication."""

import itertools
from typing import Any

import pytest
from sqlalchemy import update

from consumers.contract import UnreadableEvent
from consumers.tables import recordings
from schemas.event import Record
from tests.ended_calls import CALLER, ended
from tests.unit.consumers.recordings.books import Books

STARTED_S = 1_767_225_500.5  # 2025-12-31T23:58:20.5Z


def called(session_id: str, at: int, url: str | None, **more: Any) -> Record:
    return ended(session_id, at, {"session_id": session_id, "recording": {"recording_url": url}, **more})


def test_a_call_with_a_recording_becomes_a_row_that_is_due(books: Books) -> None:
    record = called("s1", 5, "https://sound.example/1?sig=x", ts=STARTED_S)
    books.hear(record)
    (row,) = books.rows()
    assert row["received_at"] == row["next_attempt_at"] > 0
    assert row["caller"] == '{"id":"c0ffee","kind":"phone","number":"+15550100"}'
    del row["received_at"], row["next_attempt_at"], row["caller"]
    assert row == {
        "session_id": "s1",
        "status": "pending",
        "url": "https://sound.example/1?sig=x",
        "event_id": record.header("ce_id"),
        "agent_id": "-agent",
        "object_stem": "_-agent/2025/12/31/s1",
        "object": None,
        "bytes": None,
        "sha256": None,
        "content_type": None,
        "attempts": 0,
        "leased_until": 0,
        "error": None,
    }


@pytest.mark.parametrize("recording", [None, {}, {"recording_url": None}, {"recording_url": "  "}, "odd", [1]])
def test_a_call_without_a_recording_leaves_nothing(books: Books, recording: Any) -> None:
    books.hear(ended("s1", 0, {"session_id": "s1", "recording": recording}))
    assert books.rows() == []


def test_without_a_start_the_day_of_receipt_counts(books: Books) -> None:
    books.hear(called("s1", 0, "https://sound.example/1"))
    assert books.row("s1")["object_stem"] == "_-agent/2026/09/21/s1"


def test_what_is_recovered_later_moves_nothing(books: Books) -> None:
    day_us = 86_400_000_000
    first = called("s1", 0, "https://sound.example/1")
    url = {"recording_url": "https://sound.example/2"}
    recovered = ended("s1", -day_us, {"recording": url, "n": 1}, recovered=True, appended_ms=2 * 10**12)
    late = ended("s1", day_us, {"recording": url}, recovered=True, appended_ms=2 * 10**12)
    books.hear(first)
    books.hear(late)
    row = books.row("s1")
    assert (row["url"], row["object_stem"]) == ("https://sound.example/1", "_-agent/2026/09/21/s1")
    books.hear(recovered)
    assert books.row("s1")["object_stem"] == "_-agent/2026/09/20/s1", "that of the first that was received"


def test_any_order_and_batching_gives_the_same_rows(books: Books) -> None:
    history = [
        called("s1", 1, None),
        called("s1", 2, "https://sound.example/old", ts=STARTED_S),
        called("s1", 3, "https://sound.example/new", ts=STARTED_S + 86_400),
        called("s1", 4, None, chat="[]"),
    ]
    books.hear(*history)
    (expected,) = books.rows()
    assert expected["url"] == "https://sound.example/new"
    assert expected["object_stem"] == "_-agent/2025/12/31/s1"
    assert expected["event_id"] == history[2].header("ce_id")
    for order in itertools.permutations(history):
        books.forget()
        books.hear(*order[:1])
        books.hear(*order[1:3], *order[:2])
        books.hear(*order[3:], *order)
        assert books.rows() == [expected]


@pytest.mark.parametrize("status", ["failed", "refused", "pending"])
def test_another_url_is_a_new_beginning(books: Books, status: str) -> None:
    books.hear(called("s1", 1, "https://sound.example/old"))
    spent = {"status": status, "attempts": 7, "next_attempt_at": 2**60, "error": "the server answered 404"}
    books.write(update(recordings).values(spent))
    books.hear(called("s1", 2, "https://sound.example/old", chat="[]"))
    assert {name: books.row("s1")[name] for name in spent} == spent
    books.hear(called("s1", 3, "https://sound.example/new"))
    row = books.row("s1")
    assert (row["status"], row["attempts"], row["error"]) == ("pending", 0, None)
    assert row["next_attempt_at"] == row["received_at"]


def test_what_is_stored_stays_stored(books: Books) -> None:
    books.hear(called("s1", 1, "https://sound.example/old"))
    stored = {"status": "stored", "object": "a/b.wav", "bytes": 3, "sha256": "ab", "content_type": "audio/wav"}
    books.write(update(recordings).values(stored))
    books.hear(called("s1", 2, "https://sound.example/new"))
    row = books.row("s1")
    assert {name: row[name] for name in stored} == stored
    assert row["url"] == "https://sound.example/new"


def test_text_that_a_database_refuses_is_cleaned(books: Books) -> None:
    books.hear(ended("s\0", 1, {"recording": {"recording_url": "https://sound.example/\0"}}, caller=CALLER))
    assert books.row("s\ufffd")["url"] == "https://sound.example/\ufffd"


def test_what_is_no_ended_call_is_unreadable(books: Books) -> None:
    with pytest.raises(UnreadableEvent):
        books.hear(Record(topic="t", partition=0, offset=0, appended_ms=0, key=None, value=b"{}", headers=()))
