"""Plan charges on real databases: by which plan and terms a call is charged, and that an old bill keeps its terms."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Engine, select

from consumers.tables import plan_terms
from tests.ended_calls import ended, time_us
from tests.plan_charges import DAY_US, DEARER, FEBRUARY, FILE, JANUARY, body, consume, forget, read, rows


def charge(engine: Engine) -> tuple[Any, ...]:
    """Of the only call: what it is charged, and by which version."""
    (row,) = rows(engine)
    return row["plan"], row["valid_from"], row["state"], row["amount_micros"]


def test_a_row_names_its_plan_its_version_its_terms_and_its_event(engine: Engine) -> None:
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


def test_a_charge_is_provisional_until_what_its_plan_needs_is_known(engine: Engine) -> None:
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


def test_a_price_change_rewrites_no_old_bill(engine: Engine) -> None:
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


def test_a_revision_that_stays_in_its_version_keeps_the_terms_of_the_bill(engine: Engine) -> None:
    consume(engine, read(FILE), [ended("s", 1, body(ts=JANUARY, duration=60))])
    consume(engine, read(DEARER), [ended("s", 2, body(ts=JANUARY - 86_400, duration=60))])
    assert charge(engine) == ("standard", "2026-01-01", "final", 120_000)


def test_an_agent_that_gets_another_plan_keeps_its_old_bills(engine: Engine) -> None:
    consume(engine, read(FILE), [ended("s", 1, body(ts=JANUARY, duration=60), agent_id="-sales")])
    moved = read(FILE.replace('agents = ["-sales"]', ""))
    consume(engine, moved, [ended("s", 2, body("1", ts=JANUARY + 1, duration=60), agent_id="-sales")])
    assert charge(engine) == ("sales", "2026-01-01", "final", 1_250_000)


def test_a_revision_that_names_another_agent_or_day_is_charged_by_the_plan_of_that(engine: Engine) -> None:
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


def test_a_body_that_is_recovered_later_moves_no_bill_to_another_day(engine: Engine) -> None:
    webhook = ended("s", -2 * DAY_US, body(duration=60))  # on the 19th of September; when it began, nobody says
    recovered = ended("s", 0, body(duration=60, n=1), recovered=True)
    for order in ([webhook, recovered], [recovered, webhook]):
        consume(engine, read(FILE), *([record] for record in order))
        assert charge(engine) == ("standard", "2026-02-01", "final", 180_000)
        assert rows(engine)[0]["called_at"] == time_us(-2 * DAY_US)
        forget(engine)


def test_calls_without_a_plan_have_no_row(engine: Engine) -> None:
    plans = read(FILE.replace('default = "standard"', ""))
    consume(engine, plans, [ended("s", 1, body("1", ts=JANUARY, duration=60))])
    assert rows(engine) == []
