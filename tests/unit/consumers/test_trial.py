"""The test kit itself: it runs what `ringlog consume` runs, and its kills are kills."""

from collections.abc import Sequence
from typing import ClassVar

import pytest
from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, Text

from consumers import outbox
from consumers.calls import announced_call, ended_call
from consumers.contract import Later, Record
from consumers.rows import insert
from consumers.testing import (
    AGENT,
    CALLER,
    Trial,
    any_order,
    ended,
    killed_everywhere,
    odd_calls,
    prefetched,
    revised,
    unreadable,
)
from schemas.check import CHECK_SESSION
from schemas.event import CHARGED
from schemas.topics import BILLING_CHARGES, CALLS_ENDED, CALLS_PREFETCH

metadata = MetaData()
seen = Table(
    "seen", metadata, Column("place", Text, primary_key=True), Column("received_at", BigInteger, nullable=False)
)


class Seeing:
    """Each record once, or the primary key would not have it. One of session `poison` raises."""

    topics = (CALLS_ENDED,)
    metadata = metadata
    name = "seeing"

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        for record in records:
            call = ended_call(record)
            if call.session_id == "poison":
                raise KeyError("an odd member")
            tx.execute(
                insert(tx, seen).values(place=f"{record.partition}/{record.offset}", received_at=call.received_at)
            )
            event = outbox.OutboxEvent(
                topic=BILLING_CHARGES,
                caller_id=call.caller.id,
                event_type=CHARGED,
                event_id=call.event_id,
                time=call.received_at,
                session_id=call.session_id,
                value=b"{}",
            )
            outbox.post(tx, self.name, [event])


class Delivering:
    """Writes down what it delivers, where a new process finds it, and raises what it is told to."""

    name = "delivering"
    topics = (CALLS_ENDED,)
    max_records = 2

    def __init__(self, delivered: list[str], raising: list[Exception] | None = None) -> None:
        self._delivered = delivered
        self._raising = raising if raising is not None else []

    def deliver(self, records: Sequence[Record]) -> None:
        assert 0 < len(records) <= self.max_records
        for record in records:
            self._delivered.append(ended_call(record).session_id)
        if self._raising:
            raise self._raising.pop(0)


class DeliveringOnTheLoop(Delivering):
    async def deliver(self, records: Sequence[Record]) -> None:  # type: ignore[override]
        super().deliver(records)


CALLS = [ended(f"session-{n}", at=n) for n in range(6)]


def test_effects_derived_events_and_dead_letters_are_those_of_the_runner() -> None:
    poison = ended("poison")
    with Trial(*CALLS, poison, unreadable()) as trial:
        trial.run(Seeing)
        assert len(trial.rows(seen)) == 6
        assert {it.session_id for it in trial.derived} == {f"session-{n}" for n in range(6)}
        assert sorted((letter.error, letter.message) for letter in trial.dead_letters) == [
            ("KeyError", "'an odd member'"),
            ("UnreadableEvent", "this value is no ended call: JSON is malformed: invalid character (byte 4)"),
        ]
        assert poison.value in [letter.record.value for letter in trial.dead_letters]
        trial.run(Seeing)
        assert len(trial.rows(seen)) == 6, "a second process goes on where the first one was"


def test_a_consumer_that_is_killed_before_its_commit_has_done_nothing() -> None:
    with Trial(*CALLS) as trial:
        assert trial.run(Seeing, killed="before commit") is not None
        assert (trial.rows(seen), trial.killed_in) == ([], "before commit")
        trial.run(Seeing, killed="after commit")
        assert len(trial.rows(seen)) == 6
        trial.run(Seeing)
        assert len(trial.rows(seen)) == 6


@pytest.mark.parametrize("kind", [Delivering, DeliveringOnTheLoop])
def test_what_was_delivered_before_a_kill_is_delivered_again(kind: type[Delivering]) -> None:
    delivered: list[str] = []
    with Trial(*CALLS, partitions=1) as trial:
        trial.run(lambda: kind(delivered), killed="before commit")
        assert delivered == ["session-0", "session-1"]
        trial.run(lambda: kind(delivered), killed="after commit")
        assert delivered == ["session-0", "session-1"] * 2
        trial.run(lambda: kind(delivered))
        assert delivered[4:] == [f"session-{n}" for n in range(2, 6)]


def test_a_moment_that_never_comes_fails_the_test() -> None:
    with Trial() as trial, pytest.raises(AssertionError, match="never to the moment 'before commit'"):
        trial.run(Seeing, killed="before commit")


@pytest.mark.parametrize("kind", [Delivering, DeliveringOnTheLoop])
@pytest.mark.parametrize(
    "error",
    [Later("busy", after_s=7), ConnectionRefusedError("+15550100"), TimeoutError()],
    ids=lambda it: repr(it)[:12],
)
def test_an_other_side_that_is_away_costs_no_event(kind: type[Delivering], error: Exception) -> None:
    delivered: list[str] = []
    raising = [error] * 5
    with Trial(*CALLS[:3], partitions=1) as trial:
        trial.run(lambda: kind(delivered, raising))
        assert trial.dead_letters == []
        assert trial.pauses == [7 if isinstance(error, Later) else 0] * 5
    assert delivered == ["session-0", "session-1"] * 6 + ["session-2"], "the same batch, for as long as it takes"


@pytest.mark.parametrize("kind", [Delivering, DeliveringOnTheLoop])
def test_the_call_of_a_check_is_delivered_to_nobody(kind: type[Delivering]) -> None:
    delivered: list[str] = []
    check = ended(f"{CHECK_SESSION}1")
    with Trial(CALLS[0], check, CALLS[1]) as trial:
        trial.run(lambda: kind(delivered))
    assert sorted(delivered) == ["session-0", "session-1"]
    with Trial(check) as trial:
        trial.run(lambda: kind(delivered))
    assert len(delivered) == 2


def test_a_handler_may_ask_for_later_too_and_has_done_nothing_until_then() -> None:
    class Asking(Seeing):
        asked: ClassVar[list[int]] = []

        def handle(self, tx: Connection, records: Sequence[Record]) -> None:
            super().handle(tx, records)
            if len(self.asked) < 3:
                self.asked.append(1)
                raise Later("not yet", after_s=1000)

    with Trial(*CALLS) as trial:
        trial.run(Asking)
        assert (trial.dead_letters, trial.pauses) == ([], [300, 300, 300])
        assert len(trial.rows(seen)) == 6


def test_any_other_error_is_tried_event_by_event_and_then_given_up() -> None:
    delivered: list[str] = []
    raising: list[Exception] = [ValueError(), ValueError(), ValueError(), ValueError()]
    with Trial(*CALLS[:3], partitions=1) as trial:
        trial.run(lambda: Delivering(delivered, raising))
        assert [letter.error for letter in trial.dead_letters] == ["ValueError"]
        assert len(trial.pauses) == 2
    assert delivered == ["session-0", "session-1", *["session-0"] * 3, "session-1", "session-2"]


def test_an_other_side_that_never_comes_back_fails_the_test() -> None:
    with Trial(CALLS[0]) as trial, pytest.raises(AssertionError, match="the other side never took it"):
        trial.run(lambda: Delivering([], [Later("busy")] * 2000))


def test_a_consumer_that_is_none_is_a_sentence() -> None:
    with Trial() as trial, pytest.raises(ValueError, match="this consumer is no consumer: it needs"):
        trial.run(object)  # type: ignore[arg-type,return-value]


def test_every_line_of_a_consumer_is_a_step_to_be_killed_at() -> None:
    killed_in = []
    for trial in killed_everywhere(*CALLS[:2], partitions=1):
        trial.run(Seeing)
        assert len(trial.rows(seen)) == 2, trial
        killed_in.append(trial.killed_in)
    lines = {it for it in killed_in if it is not None}
    first = Seeing.handle.__code__.co_firstlineno
    assert {f"line {first + n}" for n in (1, 2, 3, 5, 6, 15)} <= lines
    assert {"before commit", "after commit"} <= lines


def test_a_consumer_that_keeps_state_in_memory_is_caught() -> None:
    class Remembering(Seeing):
        """Thinks that what it has handled is done."""

        handled: ClassVar[set[int]] = set()

        def handle(self, tx: Connection, records: Sequence[Record]) -> None:
            new = [record for record in records if record.offset not in self.handled]
            self.handled.update(record.offset for record in records)
            super().handle(tx, new)

    with pytest.raises(AssertionError):
        for trial in killed_everywhere(*CALLS, partitions=1):
            Remembering.handled.clear()
            trial.run(Remembering)
            assert len(trial.rows(seen)) == 6


def test_any_order_is_many_orders_and_each_is_the_same_again() -> None:
    def orders(seed: int) -> list[list[str]]:
        found = []
        for trial in any_order(*CALLS, tries=5, seed=seed):
            order: list[str] = []
            trial.run(lambda order=order: Delivering(order))  # type: ignore[misc]
            assert set(order) == {f"session-{n}" for n in range(6)}
            found.append(order)
        return found

    assert orders(1) == orders(1)
    assert len({tuple(order) for order in orders(1)}) == 5
    assert any(len(order) > 6 for order in orders(1)), "some came twice"


def test_without_arriving_each_partition_keeps_its_order() -> None:
    for trial in any_order(*CALLS, arriving=False):
        order: list[str] = []
        trial.run(lambda order=order: Delivering(order))  # type: ignore[misc]
        assert order == [f"session-{n}" for n in range(6)], "one caller, one partition"


def test_events_are_what_the_service_writes() -> None:
    call = ended_call(ended("s", at=1, duration=..., chat=None))
    assert (call.agent_id, call.caller.number, call.direction, call.recovered) == (AGENT, CALLER, "inbound", False)
    assert (call.body.duration, call.body.chat_turns().state, b"duration" in bytes(call.sent)) == (None, "none", False)
    assert ended("s").value == ended("s").value
    assert ended_call(ended("s", caller=None)).direction == "web"
    assert ended_call(ended("s", recovered=True)).recovered
    again = ended_call(revised(ended("s"), duration=3, agent_id="other"))
    assert (again.session_id, again.body.duration, again.agent_id) == ("s", 3, "other")
    assert again.order > ended_call(ended("s")).order
    announced = announced_call(prefetched("s", plan="gold", tag=["a", "b"]))
    assert announced.parameters() | {"tag": ["a", "b"]} == announced.parameters()
    assert (announced.parameters()["plan"], announced.parameters()["from"]) == ("gold", CALLER)
    assert prefetched("s").topic == CALLS_PREFETCH.name
    assert len({it.header("ce_id") for it in odd_calls()}) == len(odd_calls())
    for odd in odd_calls():
        ended_call(odd)
