"""Which calls the provider is asked for, and how often."""

import pytest
from sqlalchemy import Engine

from cli.reconciler.ledger import ASK_AGAIN_S, MAX_ASKED, ended, note, to_ask
from consumers.call_log import CallLog
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


def asked(engine: Engine, now_us: int, after: tuple[int, str] = (0, ""), limit: int = 10) -> list[str]:
    with engine.connect() as tx:
        return [session_id for _, session_id in to_ask(tx, time_us(1_000), now_us, limit, after)]


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


def test_only_calls_with_an_end_are_known(books: Engine) -> None:
    with books.connect() as tx:
        assert ended(tx, {"a", "done", "never heard of"}) == {"done"}
        assert ended(tx, set()) == set()
