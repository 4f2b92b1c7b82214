"""The search on both databases: which turns it finds, in which order, and that it is in step with what is stored."""

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete

from consumers import database
from consumers.database import migrate
from consumers.rows import upsert
from consumers.search import find, indexed
from consumers.tables import transcripts
from runtime.settings import load_settings
from tests.search_in_step import assert_search_in_step


def searched(engine: Engine, words: str, limit: int = 100) -> list[tuple[str, int]]:
    with engine.connect() as tx:
        return [(it.session_id, it.position) for it in find(tx, words, limit)]


def row(tx: Connection, session: str, *texts: str, received_at: int = 1) -> dict[str, Any]:
    return {
        "session_id": session,
        "event_id": "e",
        "received_at": received_at,
        "caller_id": "c",
        "chat_state": "ok",
        "turns": len(texts),
        "function_calls_state": "none",
        "function_calls": 0,
        "said": json.dumps(texts),
        "speakers": json.dumps([["user", "user"]] * len(texts)),
        "words": indexed(tx, texts),
    }


def write(engine: Engine, session: str, *texts: str) -> None:
    with engine.begin() as tx:
        upsert(tx, transcripts, [row(tx, session, *texts)])


def test_the_search_is_in_step_with_the_turns(engine: Engine) -> None:
    write(engine, "s", "Grüße aus Köln", "the running invoice")
    write(engine, "t", "another invoice")
    assert searched(engine, "invoice") == [("s", 1), ("t", 0)]
    assert searched(engine, "KÖLN") == [("s", 0)]
    assert searched(engine, "run") == [], "words as they are: no language is assumed"
    assert searched(engine, "user") == [], "who speaks is nothing said"

    write(engine, "s", "Grüße aus Bonn")
    assert searched(engine, "köln") == []
    assert searched(engine, "bonn") == [("s", 0)]
    assert_search_in_step(engine)

    with engine.begin() as tx:
        tx.execute(delete(transcripts).where(transcripts.c.session_id == "s"))
    assert searched(engine, "bonn") == []
    assert searched(engine, "invoice") == [("t", 0)]
    assert_search_in_step(engine)


def test_a_call_of_any_length_can_be_stored_and_is_searched_to_its_end(engine: Engine) -> None:
    words = " ".join(f"{n:x}-{chr(0x4E00 + n % 20_000)}" for n in range(200_000))
    long = "x" * 1_000_000
    write(engine, "one turn", words + " needle")
    write(engine, "many turns", *(words[n * 100 : n * 100 + 100] for n in range(9_999)), "needle")
    write(engine, "one word", long, long + "y needle", "漢" * 5_000 + " needle")
    found = [("many turns", 9_999), ("one turn", 0), ("one word", 1), ("one word", 2)]
    assert searched(engine, "needle") == found
    assert searched(engine, long) == [("one word", 0)]
    assert searched(engine, "漢" * 5_000) == [("one word", 2)]
    assert_search_in_step(engine)


def test_words_of_two_turns_are_in_none(engine: Engine) -> None:
    write(engine, "s", "a parcel", "a refund", "the parcel and\nthe\trefund\\later")
    assert searched(engine, "parcel refund") == [("s", 2)]
    assert searched(engine, "refund\\later THE") == [("s", 2)]
    assert searched(engine, "parcel refund,later") == [("s", 2)], "side by side, whatever stands between them"
    assert searched(engine, "parcel-refund") == []


def test_a_vacuum_does_not_put_the_search_out_of_step(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    migrate(settings)
    engine = database.open_engine(settings)
    for n in range(20):
        write(engine, f"s{n}", f"word{n}")
    with engine.begin() as tx:
        tx.execute(delete(transcripts).where(transcripts.c.session_id.in_(f"s{n}" for n in range(0, 20, 2))))
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("VACUUM")
    assert [searched(engine, f"word{n}") for n in range(20)] == [
        [] if n % 2 == 0 else [(f"s{n}", 0)] for n in range(20)
    ]
    assert_search_in_step(engine)
    engine.dispose()


def test_of_more_calls_than_one_look_takes_the_newest_turns_are_found_first(engine: Engine) -> None:
    """Each call has both words; in one turn they are in every third."""
    with engine.begin() as tx:
        for n in range(700):
            said = ["a refund", "monday, a refund"] if n % 3 == 0 else ["monday", "a refund"]
            upsert(tx, transcripts, [row(tx, f"s{n % 2}{n:03}", *said, received_at=n // 2)])
    newest = sorted(range(0, 700, 3), key=lambda n: (-(n // 2), f"s{n % 2}{n:03}"))
    expected = [(f"s{n % 2}{n:03}", 1) for n in newest]
    assert searched(engine, "refund monday", limit=1000) == expected
    assert searched(engine, "refund monday", limit=100) == expected[:100]
