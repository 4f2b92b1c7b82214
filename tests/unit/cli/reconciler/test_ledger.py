"""Which calls the provider is asked for, and how often."""

import pytest
from sqlalchemy import Engine

from cli.reconciler.ledger import (
    ASK_AGAIN_S,
    START,
    UNPRICED_AFTER_S,
    UNPRICED_FOR_S,
    Place,
    complete,
    events_behind,
    note,
    overdue,
    read_to,
    read_until,
    unpriced,
)
from consumers.billing import Billing
from consumers.call_log import CallLog
from consumers.overdue import MAX_ASKED
from consumers.positions import Move, advance
from tests.ended_calls import ended as ended_call
from tests.ended_calls import prefetched, time_us

LATER_US = round(ASK_AGAIN_S * 1_000_000)


@pytest.fixture
def books(engine: Engine) -> Engine:
    """Two calls that are overdue, one that ended, and one that is not yet."""
    events = [prefetched("b", 2), prefetched("a", 1), prefetched("done", 1), ended_call("done", 5, {})]
    with engine.begin() as tx:
        CallLog().handle(tx, [*events, prefetched("now", 1_000)])
    return engine


def asked(engine: Engine, now_us: int, after: Place = START, limit: int = 10) -> list[str]:
    with engine.connect() as tx:
        return [session_id for _, session_id in overdue(tx, time_us(1_000), now_us, limit, after)]


def test_overdue_calls_are_asked_for_the_oldest_first(books: Engine) -> None:
    assert asked(books, time_us(0)) == ["a", "b"]
    assert asked(books, time_us(0), limit=1) == ["a"]
    assert asked(books, time_us(0), after=(time_us(1), "a")) == ["b"]


def test_what_was_asked_for_rests_and_is_asked_for_again(books: Engine) -> None:
    with books.begin() as tx:
        note(tx, {"a": "unknown"}, time_us(0))
    assert asked(books, time_us(LATER_US)) == ["b"]
    assert asked(books, time_us(LATER_US + 1)) == ["a", "b"]


def test_it_is_not_asked_for_ever(books: Engine) -> None:
    for turn in range(MAX_ASKED):
        assert "a" in asked(books, time_us(turn * 2 * LATER_US))
        with books.begin() as tx:
            note(tx, {"a": "unknown"}, time_us(turn * 2 * LATER_US))
    assert asked(books, time_us(MAX_ASKED * 2 * LATER_US)) == ["b"]


def test_calls_with_an_end_are_complete_and_so_is_what_was_recovered_and_not_yet_read(books: Engine) -> None:
    with books.begin() as tx:
        assert complete(tx, {"a", "done", "never heard of"}) == {"done"}
        note(tx, {"a": "recovered", "b": "unknown"}, time_us(0))
        assert complete(tx, {"a", "b", "done"}) == {"a", "done"}
        assert complete(tx, set()) == set()


def test_calls_without_a_price_are_asked_for_in_their_time(engine: Engine) -> None:
    after_us, until_us = round(UNPRICED_AFTER_S * 1_000_000), round(UNPRICED_FOR_S * 1_000_000)
    free = {"cost_breakdown": [{"type": "stt", "provider": "millis", "credit": 0}]}
    events = [ended_call("unpriced", 1, {}), ended_call("priced", 1, free)]
    with engine.begin() as tx:
        CallLog().handle(tx, events)
        Billing().handle(tx, events)

        def found(at: int) -> list[str]:
            return [session_id for _, session_id in unpriced(tx, time_us(1 + at), 10, START)]

        assert (found(after_us - 1), found(after_us), found(until_us)) == ([], ["unpriced"], ["unpriced"])
        assert found(until_us + 1) == []


def test_how_far_the_list_was_read_is_kept(engine: Engine) -> None:
    with engine.begin() as tx:
        assert read_until(tx) is None
        read_to(tx, 5)
        read_to(tx, 7)
        assert read_until(tx) == 7


def test_what_the_log_has_not_read_is_counted(engine: Engine) -> None:
    with engine.begin() as tx:
        assert events_behind(tx, {("calls.ended", 0): 5, ("calls.ended", 1): 0}) == 5
        advance(tx, "calls", "cluster", [Move("calls.ended", 0, None, 3)])
        advance(tx, "billing", "cluster", [Move("calls.ended", 0, None, 5)])
        assert events_behind(tx, {("calls.ended", 0): 5, ("calls.prefetch", 0): 2}) == 4
