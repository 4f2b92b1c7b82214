"""What is wrong in the books is found, in a real database that was filled by hand and then spoiled."""

import json

import pytest
from sqlalchemy import delete, insert, select, update

from cli.simulator.book_reader import BookReader
from cli.simulator.call import Call
from cli.simulator.comparison import Difference, caller_differences, differences, shared_profiles
from cli.simulator.expectation import expectation_of
from cli.simulator.plan import Plan
from cli.simulator.stored_sound import StoredSounds
from consumers.tables import (
    billing_entries,
    call_log,
    recordings,
    transcripts,
)
from tests.unit.cli.simulator.filled_books import FilledBooks


def compared(filled: FilledBooks, plan: Plan, *, all_announced: bool = False) -> list[Difference]:
    calls = list(plan)
    said = BookReader(filled.engine).said([call.session_id for call in calls])
    found = (differences(call, said[call.session_id], all_announced=all_announced) for call in calls)
    return [difference for some in found for difference in some]


def paid(plan: Plan) -> Call:
    """A call that costs something, was spoken in, called a function and was recorded."""
    return next(
        call for call in plan if (it := call.books) and it.costs and it.turns and it.function_calls and it.recording
    )


def unknown(plan: Plan) -> Call:
    return next(call for call in plan if call.shape == "cost_null")


def test_books_that_say_what_they_must_say_have_no_differences(filled: FilledBooks, plan: Plan) -> None:
    assert compared(filled, plan, all_announced=True) == []


def test_a_bill_that_was_posted_twice_is_found(filled: FilledBooks, plan: Plan) -> None:
    call = paid(plan)
    assert call.books is not None and call.books.costs
    where = billing_entries.c.session_id == call.session_id
    with filled.engine.begin() as tx:
        rows = [
            dict(row) | {"event_id": "again"} for row in tx.execute(select(billing_entries).where(where)).mappings()
        ]
        tx.execute(insert(billing_entries), rows)
    found = {(it.about, it.what, it.expected, it.said) for it in compared(filled, plan)}
    assert found == {
        (call.session_id, f"cost of {type_} by {by}", f"{micros} micro-credits", f"{2 * micros} micro-credits")
        for (type_, by), micros in call.books.costs.items()
    }


def test_a_missing_bill_is_found(filled: FilledBooks, plan: Plan) -> None:
    call = paid(plan)
    assert call.books is not None and call.books.costs
    filled.run(delete(billing_entries).where(billing_entries.c.session_id == call.session_id))
    found = compared(filled, plan)
    assert {it.about for it in found} == {call.session_id} and {it.said for it in found} == {"nothing"}
    assert len(found) == len(call.books.costs)


def test_a_single_micro_credit_is_found(filled: FilledBooks, plan: Plan) -> None:
    call = paid(plan)
    where = billing_entries.c.session_id == call.session_id
    with filled.engine.begin() as tx:
        row = tx.execute(select(billing_entries).where(where)).first()
        assert row is not None
        one = (where, billing_entries.c.type == row.type, billing_entries.c.provider == row.provider)
        tx.execute(update(billing_entries).where(*one).values(amount_micros=row.amount_micros + 1))
    (found,) = compared(filled, plan)
    assert found.said == f"{row.amount_micros + 1} micro-credits"


def test_a_bill_where_the_cost_is_unknown_is_found_even_if_it_is_zero(filled: FilledBooks, plan: Plan) -> None:
    call = unknown(plan)
    entry = {"type": "stt", "provider": "millis", "kind": "charge", "amount_micros": 0, "caller_id": "x"}
    about = {"session_id": call.session_id, "event_id": "e", "received_at": 1}
    filled.run(insert(billing_entries).values(**entry, **about))
    assert compared(filled, plan) == [Difference(call.session_id, "cost", "unknown", "0 micro-credits")]


@pytest.mark.parametrize(
    ("column", "value"),
    [("status", "lost"), ("duration_ms", -1), ("started_at", 5), ("chat_state", "none"), ("agent_id", "other")],
)
def test_a_wrong_column_is_named(filled: FilledBooks, plan: Plan, column: str, value: object) -> None:
    call = paid(plan)
    filled.run(update(transcripts).where(transcripts.c.session_id == call.session_id).values({column: value}))
    (found,) = compared(filled, plan)
    assert (found.about, found.what, found.said) == (call.session_id, column, str(value))


@pytest.mark.parametrize(
    ("column", "value", "told"), [("ended_at", None, "False"), ("recovered", True, "True"), ("status", "lost", "lost")]
)
def test_what_the_log_of_calls_says_wrongly_is_named(
    filled: FilledBooks, plan: Plan, column: str, value: object, told: str
) -> None:
    call = paid(plan)
    filled.run(update(call_log).where(call_log.c.session_id == call.session_id).values({column: value}))
    (found,) = compared(filled, plan)
    assert (found.about, found.what, found.said) == (call.session_id, f"call {column.removesuffix('_at')}", told)


def test_a_missing_call_is_found(filled: FilledBooks, plan: Plan) -> None:
    call = paid(plan)
    filled.run(delete(call_log).where(call_log.c.session_id == call.session_id))
    assert compared(filled, plan) == [Difference(call.session_id, "call", "a row", "nothing")]


def test_an_announcement_may_be_missing_where_a_service_was_away_and_must_not_be_made_up(
    filled: FilledBooks, plan: Plan
) -> None:
    call, silent = paid(plan), next(call for call in plan if call.books and not call.is_announced)
    announced = next(call for call in plan if call.books is None and call.is_announced)
    filled.run(delete(call_log).where(call_log.c.session_id == announced.session_id))
    filled.run(update(call_log).where(call_log.c.session_id == call.session_id).values(prefetched_at=None))
    assert compared(filled, plan) == []
    assert compared(filled, plan, all_announced=True) == sorted(
        [
            Difference(call.session_id, "call prefetched", "True", "False"),
            Difference(announced.session_id, "call", "a row", "nothing"),
        ],
        key=lambda it: [call.session_id for call in plan].index(it.about),
    )
    filled.run(update(call_log).where(call_log.c.session_id == silent.session_id).values(prefetched_at=1))
    assert compared(filled, plan) == [Difference(silent.session_id, "call prefetched", "False", "True")]


def test_a_missing_turn_a_changed_turn_and_a_lost_result_are_found(filled: FilledBooks, plan: Plan) -> None:
    call = paid(plan)
    assert call.books is not None
    texts, roles = (list(some) for some in zip(*((text, role) for role, text in call.books.turns), strict=True))

    def tell(texts: list[str], **others: str) -> None:
        speakers = json.dumps([[role, role] for role in roles[-len(texts) :]])
        new = {"said": json.dumps(texts), "speakers": speakers, **others}
        filled.run(update(transcripts).where(transcripts.c.session_id == call.session_id).values(new))

    called = [{"name": it.name, "result": '"nobody said that"'} for it in call.books.function_calls]
    tell(["else", *texts[1:]], called=json.dumps(called))
    assert {it.what for it in compared(filled, plan)} >= {"turns 0", "function_calls 0"}
    tell(texts[1:])
    assert "turns" in {it.what for it in compared(filled, plan)}


def test_a_call_that_no_book_may_know_is_found(filled: FilledBooks, plan: Plan) -> None:
    call = next(call for call in plan if call.shape == "not_json")
    row = {"caller_id": "x", "chat_state": "none", "turns": 0, "function_calls_state": "none", "function_calls": 0}
    about = {"session_id": call.session_id, "event_id": "e", "received_at": 1}
    filled.run(insert(transcripts).values(**row, **about))
    assert compared(filled, plan) == [Difference(call.session_id, "books", "in none of them", "transcript")]


def test_a_recording_that_is_not_stored_is_found(filled: FilledBooks, plan: Plan) -> None:
    call = paid(plan)
    where = recordings.c.session_id == call.session_id
    filled.run(update(recordings).where(where).values(status="failed", error="status 404"))
    assert compared(filled, plan) == [Difference(call.session_id, "recording", "stored", "failed: status 404")]


async def test_an_object_that_is_not_what_its_row_says_is_found(filled: FilledBooks, plan: Plan) -> None:
    recorded = [it.books for it in plan if it.books and it.books.recording]
    objects = {it.session_id: (f"agent/{it.session_id}.wav", it.recording) for it in recorded if it.recording}
    sounds = StoredSounds(filled.folder.as_uri())
    assert await sounds.differences(objects) == []
    cut, gone = (filled.folder / objects[it.session_id][0] for it in recorded[:2])
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    found = {it.about: it.said for it in await sounds.differences(objects)}
    assert set(found) == {recorded[0].session_id, recorded[1].session_id}
    assert found[recorded[1].session_id].startswith("unreadable")


def test_sums_of_callers_are_compared(filled: FilledBooks, plan: Plan) -> None:
    reader = BookReader(filled.engine)
    said = reader.said([call.session_id for call in plan])
    ids: dict[str, set[str]] = {}
    for call in plan:
        transcript = said[call.session_id].transcript
        if call.books and call.books.caller and transcript:
            ids.setdefault(call.books.caller, set()).add(transcript.caller_id)
    callers = expectation_of(plan).callers
    all_ids = [next(iter(known)) for known in ids.values()]
    assert caller_differences(callers, ids, reader.sums(all_ids)) == []
    number = min(callers)
    (caller_id,) = ids[number]
    filled.run(update(transcripts).where(transcripts.c.caller_id == caller_id).values(duration_ms=1))
    (found,) = caller_differences(callers, ids, reader.sums(all_ids))
    assert (found.about, found.what, found.said) == (number, "duration_ms", str(callers[number].calls))


def test_callers_who_share_a_profile_are_found() -> None:
    nameless = [("session-1", "a"), ("session-2", "b"), ("session-3", "a"), ("session-4", "phone")]
    assert [(it.about, it.said) for it in shared_profiles(nameless, {"+1": {"phone"}})] == [
        ("session-3", "that of session-1"),
        ("session-4", "that of +1"),
    ]
