"""Plan charges are functions of the set of events and of the plans: no order, batches or processes change them."""

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from schemas.event import Record
from tests.ended_calls import ended
from tests.plan_charges import DAY_US, FEBRUARY, FILE, JANUARY, body, consume, forget, read, rows

# The oracle: what a call is charged, from what was generated and by the words of the file, not of the code.

# Received in the days around a new version, which counts for calls of which nobody says when they began.
DAYS = st.integers(-5, 0)
TIMES = st.sampled_from([None, JANUARY, FEBRUARY])
ACCOUNTS = st.sampled_from([None, "acme", "nobody"])


class Said(msgspec.Struct, frozen=True):
    session: str
    day: int
    agent: str | None
    account: str | None
    ts: float | None
    duration: int | None
    credit: int | None
    n: int
    recovered: bool

    def record(self) -> Record:
        metadata_ = None if self.account is None else {"account": self.account}
        # The agent is of the body, so that bodies of two agents are two events.
        about = {"agent_id": self.agent, "ts": self.ts, "duration": self.duration, "metadata": metadata_, "n": self.n}
        said = body(self.credit, **about)
        return ended(self.session, self.day * DAY_US, said, agent_id=self.agent, recovered=self.recovered)


SAID = st.builds(
    Said,
    session=st.sampled_from(["one", "two"]),
    day=DAYS,
    agent=st.sampled_from([None, "-sales", "-other"]),
    account=ACCOUNTS,
    ts=TIMES,
    duration=st.sampled_from([None, 0, 30, 61]),
    credit=st.sampled_from([None, 0, 2]),
    n=st.integers(0, 1),
    recovered=st.booleans(),
)


def last(values: Sequence[Any]) -> Any:
    return next((value for value in reversed(values) if value is not None), None)


def expected(said: Sequence[Said]) -> dict[str, tuple[Any, ...]]:
    earliest: dict[str, Said] = {}
    for it in said:
        id_ = it.record().header("ce_id") or ""
        if id_ not in earliest or it.day < earliest[id_].day:
            earliest[id_] = it
    in_order = sorted(earliest.items(), key=lambda item: (not item[1].recovered, item[1].day, item[0]))
    ordered = [it for _, it in in_order]
    due: dict[str, tuple[Any, ...]] = {}
    for session in {it.session for it in ordered}:
        of_it = [it for it in ordered if it.session == session]
        fields = ("agent", "account", "ts", "duration", "credit")
        agent, account, ts, duration, credit = (last([getattr(it, name) for it in of_it]) for name in fields)
        version, seconds = _version(ts, min(it.day for it in of_it))
        if account == "acme":
            due[session] = ("acme", "2026-01-01", 500_000)
        elif agent == "-sales":
            due[session] = ("sales", "2026-01-01", None if credit is None else 50_000 + credit * 1_200_000)
        else:
            due[session] = ("standard", version, None if duration is None else seconds[duration])
    return due


def _version(ts: float | None, first_day: int) -> tuple[str, dict[int, int]]:
    """The version of the standard plan, and what it charges for each of the durations."""
    if ts == JANUARY:
        return "2026-01-01", {0: 0, 30: 120_000, 61: 240_000}
    if ts == FEBRUARY or first_day < -1:  # the day of receipt is the 21st of September and so many days before
        return "2026-02-01", {0: 0, 30: 90_000, 61: 183_000}
    return "2026-09-20", {0: 0, 30: 120_000, 61: 244_000}


@st.composite
def deliveries(draw: Callable[[Any], Any]) -> tuple[list[Said], list[list[Said]]]:
    """Deliveries, some of one body at several times; and the same in another order, some twice, in batches."""
    said = draw(st.lists(SAID, min_size=1, max_size=6))
    again = draw(st.lists(st.tuples(st.sampled_from(said), DAYS), max_size=2))
    said = said + [msgspec.structs.replace(it, day=day) for it, day in again]
    shuffled = draw(st.permutations(said + draw(st.lists(st.sampled_from(said), max_size=3))))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(shuffled) - 1)), max_size=3)) | {0, len(shuffled)})
    return said, [shuffled[start:end] for start, end in itertools.pairwise(cuts)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries())
def test_any_order_duplication_and_batches_give_the_same_charges(
    engine: Engine, delivered: tuple[list[Said], list[list[Said]]]
) -> None:
    said, batches = delivered
    plans = read(FILE)
    forget(engine)
    consume(engine, plans, *([it.record()] for it in said))
    first = rows(engine)
    assert {row["session_id"]: (row["plan"], row["valid_from"], row["amount_micros"]) for row in first} == expected(
        said
    )
    assert all((row["state"] == "final") == (row["amount_micros"] is not None) for row in first)
    forget(engine)
    consume(engine, plans, *([it.record() for it in batch] for batch in batches))
    assert rows(engine) == first


def test_two_processes_that_meet_at_a_session_charge_what_one_would(engine: Engine) -> None:
    plans = read(FILE)
    agents = ["-sales", "-other"]
    records = [
        ended(f"s{n % 5}", n, body(n % 7, ts=JANUARY, duration=n, n=n), agent_id=agents[n % 2]) for n in range(80)
    ]
    consume(engine, plans, records)
    alone = rows(engine)
    forget(engine)
    failures: list[BaseException] = []

    def work(mine: Sequence[Record]) -> None:
        try:
            consume(engine, plans, *([record] for record in mine))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(records[part::2],)) for part in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows(engine) == alone
