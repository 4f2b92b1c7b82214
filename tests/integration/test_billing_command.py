"""`ringlog billing report` and `call` as a user runs them, on both databases."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from cli.billing import app
from consumers.billing import Billing
from consumers.database import migrate, open_engine
from consumers.plans import load_plans
from runtime.settings import Settings, load_settings
from schemas.caller import Caller
from tests.ended_calls import ended
from tests.logging_restored import logs_restored

FILE = """
default = "standard"

[plans.standard]
currency = "USD"
versions = [{ valid_from = 2026-01-01, per_minute = "0.12", round_up_to_s = 60 }]

[plans.sales]
currency = "EUR"
agents = ["-sales"]
versions = [{ valid_from = 2026-11-01, per_call = "0.5", markup_percent = "20" }]
"""

WEB = Caller("f00d", "session")


def at(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


def costs(*credits_: Any) -> list[dict[str, Any]]:
    return [{"type": f"t{n}", "provider": "millis", "credit": credit} for n, credit in enumerate(credits_)]


NOVEMBER = at(2026, 11, 1)
CALLS = [
    ended("-first", 1, {"ts": NOVEMBER, "duration": 61, "cost_breakdown": costs("0.1", "0.0043")}),
    ended("second", 2, {"ts": at(2026, 11, 30, 23, 59, 59), "duration": 5, "cost_breakdown": None}),
    ended("third", 3, {"ts": NOVEMBER, "duration": 9, "cost_breakdown": costs(1)}, agent_id="-sales", caller=WEB),
    ended("fourth", 4, {"ts": NOVEMBER, "duration": 9}, agent_id="-sales", caller=WEB),
    ended("before", 5, {"ts": at(2026, 10, 31, 23, 59, 59), "cost_breakdown": costs(7)}, agent_id="-sales"),
    ended("after", 6, {"ts": at(2026, 12, 1), "cost_breakdown": costs(7)}),
    ended("timeless", 7, {"cost_breakdown": costs(3)}, agent_id=None),
    ended("-first", 8, {"ts": NOVEMBER, "duration": 61, "cost_breakdown": costs("0.1", "0.005")}),
    ended("-first", 9, {"ts": NOVEMBER, "duration": 61, "cost_breakdown": costs("0.10", "0.0050"), "n": 1}),
    ended("-first", 10, {"ts": NOVEMBER, "duration": 61}),
]


@pytest.fixture
def books(database_url: str, tmp_path: Path) -> Settings:
    path = tmp_path / "plans.toml"
    path.write_text(FILE)
    settings = load_settings(database_url=database_url, data_dir=tmp_path, billing_plans=path)
    migrate(settings)
    engine = open_engine(settings)
    with engine.begin() as tx:
        Billing(load_plans(settings)).handle(tx, CALLS)
    engine.dispose()
    return settings


def ringlog(settings: Settings, *arguments: str, code: int = 0) -> Result:
    env = {"RINGLOG_DATABASE_URL": settings.database, "RINGLOG_DATA_DIR": str(settings.data_dir), "COLUMNS": "200"}
    with logs_restored():
        result = CliRunner().invoke(app, arguments, env=env, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def lines(settings: Settings, by: str, month: str = "2026-11") -> Any:
    return msgspec.json.decode(ringlog(settings, "report", "--month", month, "--by", by, "--json").stdout)


def plain(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("key", "currency", "calls", "provisional", "cost_micros", "plan_provisional", "amount_micros")
    return [tuple(line[name] for name in names) for line in lines]


STANDARD = ("USD", 2, 1, 105_000, 0, 360_000)
SALES = ("EUR", 2, 1, 1_000_000, 1, 1_700_000)


def test_a_month_is_added_up_by_agent_caller_or_plan(books: Settings) -> None:
    by_agent = lines(books, "agent")
    assert plain(by_agent["lines"]) == [("-agent", *STANDARD), ("-sales", *SALES)]
    assert plain(by_agent["totals"]) == [(None, *SALES), (None, *STANDARD)]  # euros and dollars are not added
    assert (by_agent["month"], by_agent["by"]) == ("2026-11", "agent")
    assert plain(lines(books, "caller")["lines"]) == [("+15550100", *STANDARD), ("f00d", *SALES)]
    assert plain(lines(books, "plan")["lines"]) == [("sales", *SALES), ("standard", *STANDARD)]


def test_a_call_is_of_the_month_in_which_it_began_in_utc(books: Settings) -> None:
    assert plain(lines(books, "plan", "2026-10")["lines"]) == [(None, None, 1, 0, 7_000_000, 0, 0)]
    assert plain(lines(books, "plan", "2026-12")["lines"]) == [("standard", "USD", 1, 0, 7_000_000, 1, 0)]
    # Its end came in September, and nobody says when it began.
    assert plain(lines(books, "agent", "2026-09")["lines"]) == [(None, "USD", 1, 0, 3_000_000, 1, 0)]
    assert lines(books, "agent", "2026-08") == {"month": "2026-08", "by": "agent", "lines": [], "totals": []}


def test_a_report_is_a_table_or_csv(books: Settings) -> None:
    table = ringlog(books, "report", "--month", "2026-11").stdout
    assert "Calls that began in 2026-11 (UTC), by agent" in table
    rows = [line.split() for line in table.splitlines()]
    assert [cells for cells in rows if cells and cells[0] in ("-agent", "-sales", "total")] == [
        ["-agent", "2", "0.105", "1", "0.36", "USD", "0"],
        ["-sales", "2", "1", "1", "1.7", "EUR", "1"],
        ["total", "2", "1", "1", "1.7", "EUR", "1"],
        ["total", "2", "0.105", "1", "0.36", "USD", "0"],
    ]
    said = ringlog(books, "report", "--month", "2026-10", "--by", "plan", "--csv").stdout
    assert list(csv.reader(io.StringIO(said))) == [
        ["plan", "calls", "provisional", "cost", "amount", "currency", "plan_provisional"],
        ["", "1", "0", "7", "", "", "0"],
    ]
    nothing = ringlog(books, "report", "--month", "2026-08")
    assert (nothing.stdout, "No call began in 2026-08" in nothing.stderr) == ("", True)


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-1", "0000-01", "November", "2026-11-01", "٢٠٢٦-11"])
def test_a_month_that_is_none_is_a_sentence(books: Settings, month: str) -> None:
    result = ringlog(books, "report", "--month", month, code=2)
    assert result.stderr == f"--month is wrong: {month!r} is no month; write it as 2026-11.\n"
    assert "name one of them" in ringlog(books, "report", "--month", "2026-11", "--csv", "--json", code=2).stderr


def test_the_bill_of_a_call_is_explained_entry_by_entry(books: Settings) -> None:
    ids = [record.header("ce_id") for record in CALLS if record.header("ce_subject") == "-first"]
    said = ringlog(books, "call", "-first").stdout.splitlines()
    assert said[0] == "-first  final, 0.105 credits"
    assert said[1] == "began 2026-11-01 00:00:00 UTC, 61 s, agent -agent, caller c0ffee"
    assert [line.partition(" UTC: ")[2] for line in said if " received " in line] == [
        "the first known cost",
        "another cost than before: the difference",
        "the same cost as before",
        "no cost told: what is known stays",
    ]
    assert [line.partition(" ")[0] for line in said if " received " in line] == ids
    assert [line.split() for line in said if " by " in line] == [
        ["charge", "0.1", "t0", "by", "millis"],
        ["charge", "0.0043", "t1", "by", "millis"],
        ["adjustment", "0.0007", "t1", "by", "millis"],
    ]
    assert "plan standard  final, 0.24 USD" in said
    assert "            0.24  120 s at 0.12 a minute (rounded up to 60 s)" in said


def test_what_is_not_known_yet_is_said(books: Settings) -> None:
    said = ringlog(books, "call", "fourth").stdout.splitlines()
    assert said[0] == "fourth  provisional, cost not known yet"
    assert "no cost told: nothing to post yet" in said[3]
    assert "plan sales  provisional, not known yet" in said
    assert "               ?  the provider's cost and 20%" in said
    assert said[-1] == "Not known yet: the cost."
    assert "Not known yet: the duration." in ringlog(books, "call", "after").stdout
    assert "No plan charges this call." in ringlog(books, "call", "before").stdout
    unknown = ringlog(books, "call", "nobody", code=1)
    assert (unknown.stdout, "Billing knows no call of session 'nobody'" in unknown.stderr) == ("", True)


def test_the_bill_of_a_call_is_json_too(books: Settings) -> None:
    said = msgspec.json.decode(ringlog(books, "call", "--json", "third").stdout)
    assert (said["state"], said["cost_micros"], said["called_at"]) == ("final", 1_000_000, int(NOVEMBER) * 1_000_000)
    (step,) = said["steps"]
    assert step["entries"] == [{"kind": "charge", "type": "t0", "provider": "millis", "amount_micros": 1_000_000}]
    assert (said["plan"]["row"]["amount_micros"], said["plan"]["terms"]["per_call_micros"]) == (1_700_000, 500_000)


def test_a_database_of_before_the_plans_is_read(engine: Engine, tmp_path: Path) -> None:
    """What was kept of a body then said less of the call."""
    from consumers import revisions
    from consumers.bills import bill_of, encoded
    from consumers.calls import ended_call

    call = ended_call(ended("old", 1, {"ts": NOVEMBER, "cost_breakdown": costs(2)}))
    bill = bill_of(call)
    with engine.begin() as tx:
        revisions.record(tx, "billing", {"old": [call.revision(encoded((bill.charges, bill.agent_id, bill.caller)))]})
        Billing().handle(tx, [ended("old", 2, {"ts": NOVEMBER, "cost_breakdown": costs(5)})])
    settings = load_settings(database_url=engine.url.render_as_string(hide_password=False), data_dir=tmp_path)
    assert plain(lines(settings, "agent")["lines"]) == [("-agent", None, 1, 0, 5_000_000, 0, 0)]
