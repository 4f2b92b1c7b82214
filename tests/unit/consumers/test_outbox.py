"""What is posted is in the transaction, and only what a topic can take."""

import pytest
from sqlalchemy import Engine, delete, select

from consumers.outbox import MAX_VALUE_BYTES, ROW_BYTES, ROW_EVENTS, OutboxEvent, post, waiting_in
from consumers.tables import outbox
from schemas.event import CHARGED
from schemas.topics import BILLING_CHARGES
from tests.posted import events_in


def event(id_: str, value: bytes = b"{}") -> OutboxEvent:
    return OutboxEvent(
        topic=BILLING_CHARGES,
        caller_id="c",
        event_type=CHARGED,
        event_id=id_,
        time=1,
        session_id="s",
        value=value,
    )


def waiting(engine: Engine) -> list[tuple[str, str]]:
    return [(it.topic, it.event_id) for it in events_in(engine, "billing")]


def rows(engine: Engine) -> list[int]:
    """How many events each has."""
    with engine.connect() as tx:
        return list(tx.scalars(select(outbox.c.events).order_by(outbox.c.id)))


def test_events_wait_in_the_order_in_which_they_were_posted(engine: Engine) -> None:
    with engine.begin() as tx:
        post(tx, "billing", [event("2"), event("1")])
        post(tx, "billing", [event("0")])
        post(tx, "billing", [])
    assert waiting(engine) == [("billing.charges", id_) for id_ in "210"]
    assert rows(engine) == [2, 1]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10] * ROW_EVENTS, [ROW_EVENTS]),
        ([10] * (2 * ROW_EVENTS + 1), [ROW_EVENTS, ROW_EVENTS, 1]),
        ([ROW_BYTES // 2] * 5, [2, 2, 1]),
        ([10, MAX_VALUE_BYTES, 10], [1, 1, 1]),
    ],
)
def test_a_row_has_so_many_events_and_bytes_and_one_event_at_least(
    engine: Engine, sizes: list[int], expected: list[int]
) -> None:
    with engine.begin() as tx:
        post(tx, "billing", [event(str(n), bytes(size)) for n, size in enumerate(sizes)])
    assert rows(engine) == expected
    assert [int(id_) for _, id_ in waiting(engine)] == list(range(len(sizes)))
    with engine.connect() as tx:
        assert (waiting_in(tx, "billing"), waiting_in(tx, "transcripts")) == (len(sizes), 0)


def test_what_is_rolled_back_was_never_posted(engine: Engine) -> None:
    with engine.connect() as tx:
        post(tx, "billing", [event("1")])
        tx.rollback()
    assert waiting(engine) == []


def test_an_event_that_no_topic_takes_is_refused_before_it_blocks_the_others(engine: Engine) -> None:
    with engine.begin() as tx, pytest.raises(ValueError, match="too many for a topic"):
        post(tx, "billing", [event("1"), event("2", bytes(MAX_VALUE_BYTES + 1))])
    assert waiting(engine) == []


def test_a_number_is_never_used_again(engine: Engine) -> None:
    """Or a slow relay could delete, by its number, an event that it has not published."""
    numbers: list[int] = []
    for _ in range(2):
        with engine.begin() as tx:
            post(tx, "billing", [event("1")])
            numbers.append(tx.execute(select(outbox.c.id)).scalar_one())
            tx.execute(delete(outbox))
    assert numbers[0] < numbers[1]
