"""Plan charges on real databases: functions of the calls and the plans, and an old bill keeps its terms."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from consumers.billing import Billing
from consumers.database import migrate, open_engine
from consumers.plans import Plans, load_plans
from consumers.tables import metadata, plan_charges, plan_terms
from runtime.settings import load_settings
from schemas.event import Record
from tests.ended_calls import ended

JANUARY = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
FEBRUARY = datetime(2026, 2, 1, 12, tzinfo=UTC).timestamp()

FILE = """
metadata_key = "account"
default = "standard"

[plans.standard]
currency = "USD"
versions = [
  { valid_from = 2026-01-01, per_minute = "0.12", round_up_to_s = 60 },
  { valid_from = 2026-02-01, per_minute = "0.18" },
]

[plans.sales]
currency = "USD"
agents = ["-sales"]
versions = [{ valid_from = 2026-01-01, per_call = "0.05", markup_percent = "20" }]

[plans.acme]
currency = "EUR"
metadata_values = ["acme"]
versions = [{ valid_from = 2026-01-01, per_call = "0.5" }]
"""
DEARER = FILE.replace('"0.12"', '"1.20"').replace('"0.05"', '"0.50"')


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    of_this_test = load_settings(database_url=database_url)
    migrate(of_this_test)
    engine = open_engine(of_this_test)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Plans]:
    """The plans of a file with this text."""
    path: Path = tmp_path_factory.mktemp("plans") / "plans.toml"

    def read(text: str) -> Plans:
        path.write_text(text)
        plans = load_plans(load_settings(billing_plans=path))
        assert plans is not None
        return plans

    return read


def consume(engine: Engine, plans: Plans | None, *batches: Sequence[Record]) -> None:
    billing = Billing(plans)
    for batch in batches:
        with engine.begin() as tx:
            billing.handle(tx, batch)


def rows(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as tx:
        query = select(plan_charges).order_by(plan_charges.c.session_id)
        return [dict(row) for row in tx.execute(query).mappings()]


def charge(engine: Engine) -> tuple[Any, ...]:
    """Of the only call: what it is charged, and by which version."""
    (row,) = rows(engine)
    return row["plan"], row["valid_from"], row["state"], row["amount_micros"]


def forget(engine: Engine) -> None:
    with engine.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())


def body(credit: Any = None, **members: Any) -> dict[str, Any]:
    breakdown = None if credit is None else [{"type": "stt", "provider": "millis", "credit": credit}]
    return {"cost_breakdown": breakdown, **members}


def test_a_row_names_its_plan_its_version_its_terms_and_its_event(engine: Engine, read: Callable[..., Plans]) -> None:
    record = ended("s", 1, body("0.01", ts=JANUARY, duration=61, metadata={"account": "nobody"}))
    consume(engine, read(FILE), [record])
    (row,) = rows(engine)
    with engine.connect() as tx:
        ((digest, terms),) = tx.execute(select(plan_terms)).all()
    assert row == {
        "session_id": "s",
        "plan": "standard",
        "valid_from": "2026-01-01",
        "terms": digest,
        "currency": "USD",
        "state": "final",
        "amount_micros": 240_000,
        "billed_s": 120,
        "minutes_micros": 240_000,
        "per_call_micros": 0,
        "passed_on_micros": 0,
        "called_at": int(JANUARY) * 1_000_000,
        "agent_id": "-agent",
        "metadata_value": "nobody",
        "caller_id": "c0ffee",
        "event_id": record.header("ce_id"),
        "received_at": row["received_at"],
    }
    assert row["received_at"] % 1000 == 1
    said = msgspec.json.decode(terms)
    assert (said["plan"], said["valid_from"], said["per_minute_micros"]) == ("standard", "2026-01-01", 120_000)


def test_a_charge_is_provisional_until_what_its_plan_needs_is_known(engine: Engine, read: Callable[..., Plans]) -> None:
    plans = read(FILE)
    sales = {"agent_id": "-sales"}
    consume(engine, plans, [ended("s", 1, body(ts=JANUARY), **sales)])
    assert charge(engine) == ("sales", "2026-01-01", "provisional", None)
    consume(engine, plans, [ended("s", 2, body("0.01", ts=JANUARY), **sales)])
    assert charge(engine) == ("sales", "2026-01-01", "final", 62_000)
    consume(engine, plans, [ended("s", 3, body(ts=JANUARY), **sales)])  # says nothing of the cost
    assert charge(engine) == ("sales", "2026-01-01", "final", 62_000)
    consume(engine, plans, [ended("s", 4, body("0", ts=JANUARY), **sales)])
    assert charge(engine) == ("sales", "2026-01-01", "final", 50_000)


def test_a_price_change_rewrites_no_old_bill(engine: Engine, read: Callable[..., Plans]) -> None:
    consume(engine, read(FILE), [ended("s", 1, body(ts=JANUARY, duration=60))])
    before = rows(engine)
    consume(engine, read(DEARER), [ended("s", 1, body(ts=JANUARY, duration=60))], [ended("new", 1, body(ts=JANUARY))])
    assert rows(engine)[1:] == before
    consume(engine, read(DEARER), [ended("s", 2, body(ts=JANUARY, duration=120))])
    assert rows(engine)[1]["amount_micros"] == 240_000  # the revision is priced by the terms of the bill
    consume(engine, read(DEARER), [ended("new", 2, body(ts=JANUARY, duration=120))])
    assert rows(engine)[0]["amount_micros"] == 2_400_000
    consume(engine, None, [ended("s", 3, body(ts=JANUARY, duration=180))], [ended("none", 3, body(duration=180))])
    assert [(row["session_id"], row["amount_micros"]) for row in rows(engine)] == [("new", 2_400_000), ("s", 360_000)]


def test_a_revision_that_stays_in_its_version_keeps_the_terms_of_the_bill(
    engine: Engine, read: Callable[..., Plans]
) -> None:
    consume(engine, read(FILE), [ended("s", 1, body(ts=JANUARY, duration=60))])
    consume(engine, read(DEARER), [ended("s", 2, body(ts=JANUARY - 86_400, duration=60))])
    assert charge(engine) == ("standard", "2026-01-01", "final", 120_000)


def test_an_agent_that_gets_another_plan_keeps_its_old_bills(engine: Engine, read: Callable[..., Plans]) -> None:
    consume(engine, read(FILE), [ended("s", 1, body(ts=JANUARY, duration=60), agent_id="-sales")])
    moved = read(FILE.replace('agents = ["-sales"]', ""))
    consume(engine, moved, [ended("s", 2, body("1", ts=JANUARY + 1, duration=60), agent_id="-sales")])
    assert charge(engine) == ("sales", "2026-01-01", "final", 1_250_000)


def test_a_revision_that_names_another_agent_or_day_is_charged_by_the_plan_of_that(
    engine: Engine, read: Callable[..., Plans]
) -> None:
    plans = read(FILE)
    consume(engine, plans, [ended("s", 1, body("1", ts=JANUARY, duration=60), agent_id="-sales")])
    consume(engine, plans, [ended("s", 2, body("1", ts=JANUARY, duration=60, n=2))])
    assert charge(engine) == ("standard", "2026-01-01", "final", 120_000)
    consume(engine, plans, [ended("s", 3, body("1", ts=FEBRUARY, duration=60))])
    assert charge(engine) == ("standard", "2026-02-01", "final", 180_000)
    consume(engine, plans, [ended("s", 4, body("1", ts=FEBRUARY, duration=60, metadata={"account": "acme"}))])
    assert charge(engine) == ("acme", "2026-01-01", "final", 500_000)
    consume(engine, plans, [ended("s", 5, body("1", ts=datetime(2025, 1, 1, tzinfo=UTC).timestamp(), duration=60))])
    assert rows(engine) == []  # acme has no plan for that day


# The oracle: what a call is charged, from what was generated and by the words of the file, not of the code.

TIMES = st.sampled_from([None, JANUARY, FEBRUARY])
ACCOUNTS = st.sampled_from([None, "acme", "nobody"])


class Said(msgspec.Struct, frozen=True):
    session: str
    at: int
    agent: str | None
    account: str | None
    ts: float | None
    duration: int | None
    credit: int | None
    n: int

    def record(self) -> Record:
        metadata_ = None if self.account is None else {"account": self.account}
        said = body(self.credit, ts=self.ts, duration=self.duration, metadata=metadata_, n=self.n)
        return ended(self.session, self.at, said, agent_id=self.agent)


SAID = st.builds(
    Said,
    session=st.sampled_from(["one", "two"]),
    at=st.integers(0, 6),
    agent=st.sampled_from([None, "-sales", "-other"]),
    account=ACCOUNTS,
    ts=TIMES,
    duration=st.sampled_from([None, 0, 30, 61]),
    credit=st.sampled_from([None, 0, 2]),
    n=st.integers(0, 1),
)


def last(values: Sequence[Any]) -> Any:
    return next((value for value in reversed(values) if value is not None), None)


def expected(said: Sequence[Said]) -> dict[str, tuple[Any, ...]]:
    earliest: dict[str, Said] = {}
    for it in said:
        id_ = it.record().header("ce_id") or ""
        if id_ not in earliest or it.at < earliest[id_].at:
            earliest[id_] = it
    ordered = [it for _, it in sorted(earliest.items(), key=lambda item: (item[1].at, item[0]))]
    due: dict[str, tuple[Any, ...]] = {}
    for session in {it.session for it in ordered}:
        of_it = [it for it in ordered if it.session == session]
        fields = ("agent", "account", "ts", "duration", "credit")
        agent, account, ts, duration, credit = (last([getattr(it, name) for it in of_it]) for name in fields)
        in_january = ts == JANUARY  # a call of no known time is of the day it was received, in September
        if account == "acme":
            due[session] = ("acme", "2026-01-01", 500_000)
        elif agent == "-sales":
            due[session] = ("sales", "2026-01-01", None if credit is None else 50_000 + credit * 1_200_000)
        elif duration is None:
            due[session] = ("standard", "2026-01-01" if in_january else "2026-02-01", None)
        elif in_january:
            due[session] = ("standard", "2026-01-01", {0: 0, 30: 120_000, 61: 240_000}[duration])
        else:
            due[session] = ("standard", "2026-02-01", {0: 0, 30: 90_000, 61: 183_000}[duration])
    return due


@st.composite
def deliveries(draw: Callable[[Any], Any]) -> tuple[list[Said], list[list[Said]]]:
    """Deliveries, some of one body at several times; and the same in another order, some twice, in batches."""
    said = draw(st.lists(SAID, min_size=1, max_size=6))
    again = draw(st.lists(st.tuples(st.sampled_from(said), st.integers(0, 6)), max_size=2))
    said = said + [msgspec.structs.replace(it, at=at) for it, at in again]
    shuffled = draw(st.permutations(said + draw(st.lists(st.sampled_from(said), max_size=3))))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(shuffled) - 1)), max_size=3)) | {0, len(shuffled)})
    return said, [shuffled[start:end] for start, end in itertools.pairwise(cuts)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries())
def test_any_order_duplication_and_batches_give_the_same_charges(
    engine: Engine, read: Callable[..., Plans], delivered: tuple[list[Said], list[list[Said]]]
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


def test_two_processes_that_meet_at_a_session_charge_what_one_would(engine: Engine, read: Callable[..., Plans]) -> None:
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


def test_calls_without_a_plan_have_no_row(engine: Engine, read: Callable[..., Plans]) -> None:
    plans = read(FILE.replace('default = "standard"', ""))
    consume(engine, plans, [ended("s", 1, body("1", ts=JANUARY, duration=60))])
    assert rows(engine) == []
