"""What is known of a whole call, whatever the order in which its events came."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, select

from cli.reconciler.ledger import note
from consumers.billing import Billing
from consumers.call_log import CallLog
from consumers.contract import UnreadableEvent
from consumers.overdue import MAX_ASKED, count_overdue, overdue_before
from consumers.recordings import Recordings
from consumers.tables import call_log, calls
from consumers.transcripts import Transcripts
from schemas.caller import Caller
from schemas.event import Record
from tests.ended_calls import ended, prefetched, time_us

BODY = {"ts": 1_700_000_000.5, "duration": 61.25, "call_status": "user-ended", "cost_breakdown": None}
PRICED = BODY | {"cost_breakdown": [{"type": "stt", "provider": "millis", "credit": 0.0043}]}
OTHER = Caller("decade", "phone", "+15550199")


def handled(engine: Engine, *batches: Sequence[Record]) -> None:
    for batch in batches:
        with engine.begin() as tx:
            CallLog().handle(tx, batch)


def row(engine: Engine, session_id: str = "s") -> dict[str, Any]:
    with engine.connect() as tx:
        return dict(tx.execute(select(calls).where(calls.c.session_id == session_id)).mappings().one())


def test_a_call_that_was_announced_is_known_before_it_ends(engine: Engine) -> None:
    handled(engine, [prefetched("s", 5), prefetched("s", 3), prefetched("s", 7)])
    known = row(engine)
    assert (known["prefetched_at"], known["ended_at"], known["direction"]) == (time_us(3), None, "inbound")
    assert (known["caller_id"], known["agent_id"], known["recovered"]) == ("c0ffee", "-agent", False)


def test_an_end_outranks_the_announcement_and_keeps_what_only_that_says(engine: Engine) -> None:
    handled(engine, [ended("s", 9, BODY, caller=OTHER, agent_id=None)], [prefetched("s", 3)])
    known = row(engine)
    assert (known["caller_id"], known["agent_id"], known["direction"]) == ("decade", "-agent", "unknown")
    assert (known["prefetched_at"], known["ended_at"]) == (time_us(3), time_us(9))
    assert known["first_heard_at"] == time_us(3)
    assert (known["started_at"], known["duration_ms"]) == (1_700_000_000_500_000, 61_250)
    assert (known["status"], known["original_status"]) == ("user-ended", "user-ended")


def test_a_later_body_counts_and_what_it_does_not_say_is_kept(engine: Engine) -> None:
    handled(engine, [ended("s", 2, {"call_status": "a new one"}), ended("s", 1, BODY)])
    known = row(engine)
    assert (known["status"], known["original_status"], known["duration_ms"]) == ("other", "a new one", 61_250)
    assert known["ended_at"] == time_us(1)


def test_what_the_api_says_fills_gaps_and_outranks_no_webhook(engine: Engine) -> None:
    recovered = ended("s", 90, BODY | {"call_status": "timeout", "duration": 5}, recovered=True)
    handled(engine, [recovered])
    assert (row(engine)["status"], row(engine)["recovered"]) == ("timeout", True)
    handled(engine, [ended("s", 9, {"call_status": "user-ended"})])
    known = row(engine)
    assert (known["status"], known["duration_ms"], known["recovered"]) == ("user-ended", 5_000, False)


def test_any_order_duplication_and_batches_give_the_same_row(engine: Engine) -> None:
    events = [
        prefetched("s", 3),
        prefetched("s", 4, caller=OTHER),
        ended("s", 9, BODY),
        ended("s", 12, {"call_status": "error"}),
        ended("s", 99, BODY | {"call_status": "timeout"}, recovered=True),
        ended("s", 10, {"duration": 4}, caller=OTHER),
    ]
    rows = set()
    for seed in range(25):
        dice = Random(seed)
        some = [*events, *dice.choices(events, k=3)]
        dice.shuffle(some)
        cut = dice.randrange(len(some))
        with engine.begin() as tx:
            for table in ("revisions", "sessions", "call_log"):
                tx.exec_driver_sql(f"DELETE FROM {table}")
        handled(engine, some[:cut], some[cut:])
        rows.add(tuple(row(engine).items()))
    assert len(rows) == 1


def test_the_other_books_are_joined(engine: Engine) -> None:
    event = ended("s", 1, PRICED | {"chat": "[]", "recording": {"recording_url": "https://a.example/s.wav"}})
    handled(engine, [event])
    known = row(engine)
    assert [known[name] for name in ("billed_micros", "transcript", "recording_status", "recording")] == [None] * 4
    with engine.begin() as tx:
        for consumer in (Billing(), Transcripts(), Recordings()):
            consumer.handle(tx, [event])
    known = row(engine)
    assert (known["billed_micros"], known["transcript"], known["recording_status"]) == (4_300, "ok", "pending")


def test_a_call_is_overdue_when_it_has_no_end_after_the_longest_call(engine: Engine) -> None:
    events = [prefetched("late", 1), prefetched("later", 1), prefetched("ended", 2), ended("ended", 5, BODY)]
    handled(engine, [*events, prefetched("now", 7_200_000_000), ended("alone", 3, BODY)])
    with engine.begin() as tx:
        assert count_overdue(tx, overdue_before(time_us(7_200_000_001), 7200)) == 0
        assert count_overdue(tx, overdue_before(time_us(7_200_000_002), 7200)) == 2
        for said in range(MAX_ASKED):
            note(tx, {"late": "unknown"}, said)
        assert count_overdue(tx, overdue_before(time_us(7_200_000_002), 7200)) == 1, "what was given up is no news"


@pytest.mark.parametrize("value", [None, b"[]", b"{}"])
def test_what_is_no_call_is_unreadable(engine: Engine, value: bytes | None) -> None:
    for event in (prefetched("s", 1), ended("s", 1, BODY)):
        with pytest.raises(UnreadableEvent):
            handled(engine, [Record(**{**{f: getattr(event, f) for f in event.__struct_fields__}, "value": value})])
    with engine.connect() as tx:
        assert tx.execute(select(call_log)).all() == []
