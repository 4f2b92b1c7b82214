"""The file of plans: what is wrong with it is said in one sentence, and what is right is chosen by call."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from consumers.bills import bill_of, call_of, encoded
from consumers.calls import ended_call
from consumers.plans import Plans, _File, _Plan, _Version, load_plans
from runtime.process import EXIT_SETTINGS
from runtime.settings import SettingsError, load_settings
from tests.ended_calls import ended
from tests.logging_restored import logs_restored

DOCUMENTED = Path(__file__).parents[3] / "docs" / "billing.md"

FILE = """
metadata_key = "account"
default = "standard"

[plans.standard]
currency = "USD"
versions = [
  { valid_from = 2026-06-01, per_minute = "0.15" },
  { valid_from = 2026-01-01, per_minute = "0.12" },
]

[plans.sales]
currency = "USD"
agents = ["-sales"]
versions = [{ valid_from = 2026-01-01, per_call = "0.05" }]

[plans.acme]
currency = "EUR"
metadata_values = ["acme", "7"]
versions = [{ valid_from = 2026-01-01, markup_percent = "20", credit = "0.92" }]
"""


def read(tmp_path: Path, text: str) -> Plans:
    path = tmp_path / "plans.toml"
    path.write_text(text)
    plans = load_plans(load_settings(billing_plans=path))
    assert plans is not None
    return plans


def chosen(plans: Plans, ts: float | None, agent: str | None, metadata: Any = None) -> str | None:
    body = {"ts": ts, "metadata": metadata}
    call = ended_call(ended("s", 0, body, agent_id=agent))
    terms = plans.terms_for(call_of([call.revision(encoded(bill_of(call, plans.metadata_key)))]))
    return terms and f"{terms.plan} {terms.valid_from}"


def at(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


def test_no_file_is_no_plans() -> None:
    assert load_plans(load_settings()) is None


def test_a_plan_is_chosen_by_metadata_then_by_agent_then_by_default(tmp_path: Path) -> None:
    plans, day = read(tmp_path, FILE), at(2026, 2, 1)
    assert chosen(plans, day, "-other") == "standard 2026-01-01"
    assert chosen(plans, day, None) == "standard 2026-01-01"
    assert chosen(plans, day, "-sales") == "sales 2026-01-01"
    assert chosen(plans, day, "-sales", {"account": "acme"}) == "acme 2026-01-01"
    assert chosen(plans, day, "-sales", {"account": 7}) == "acme 2026-01-01"
    for odd in ({"account": "nobody"}, {"account": ["acme"]}, {"account": True}, {}, "acme", 7, {"acme": "account"}):
        assert chosen(plans, day, "-sales", odd) == "sales 2026-01-01"


def test_without_a_default_other_calls_have_no_plan(tmp_path: Path) -> None:
    plans = read(tmp_path, FILE.replace('default = "standard"', ""))
    assert chosen(plans, at(2026, 2, 1), "-other") is None


def test_a_version_is_chosen_by_the_day_on_which_the_call_began_in_utc(tmp_path: Path) -> None:
    plans = read(tmp_path, FILE)
    assert chosen(plans, at(2026, 5, 31, 23, 59, 59), None) == "standard 2026-01-01"
    assert chosen(plans, at(2026, 6, 1), None) == "standard 2026-06-01"
    assert chosen(plans, at(2025, 12, 31), None) is None
    assert chosen(plans, at(2025, 12, 31), "-sales") is None  # a plan that is not valid yet, and no other in its place
    assert chosen(plans, None, None) == "standard 2026-06-01"  # received in September


V = "valid_from = 2026-01-01"
WRONG = [
    ("plans = 5", "plans is wrong: expected object, got int"),
    ("", "it lacks the key plans"),
    ("nonsense", "it is no TOML"),
    ("x = " + "9" * 5000, "it is no TOML"),
    (f"[plans.a]\ncurrency = 'USD'\nversions = [{{{V}}}]\n[plans.a]", "it is no TOML"),
    ("tax = 1\n[plans]", "there is no key tax"),
    ("default = 'b'\n[plans]", "default is 'b', and there is no such plan"),
    ("[plans.a]\nversions = []", "plan 'a': it lacks the key currency"),
    ("[plans.a]\ncurrency = 'USD'\nversions = []", "plan 'a': versions is empty"),
    ("[plans.a]\ncurrency = 'USD'", "plan 'a': it lacks the key versions"),
    ("[plans.a]\ncurrency = ''\nversions = []", "plan 'a': currency is wrong: expected str of length >= 1"),
    (f"[plans.a]\ncurrency = 'USD'\nversions = [{{{V}}}, {{{V}}}]", "plan 'a': valid_from 2026-01-01 occurs twice"),
    (
        f"[plans.a]\ncurrency = 'USD'\nmetadata_values = ['x']\nversions = [{{{V}}}]",
        "plan 'a': metadata_values need a metadata_key",
    ),
    (
        f"[plans.a]\ncurrency = 'USD'\nagents = ['x']\nversions = [{{{V}}}]\n"
        f"[plans.b]\ncurrency = 'USD'\nagents = ['x']\nversions = [{{{V}}}]",
        "plan 'b': agents has 'x', which plan 'a' has too",
    ),
]
WRONG_VERSIONS = [
    ("per_call = '1'", "version number 1: it lacks the key valid_from"),
    ("valid_from = 2026-13-01", "it is no TOML"),
    ("valid_from = 'May'", "version May: valid_from is wrong"),
    ("valid_from = 2026-01-01T10:00:00", "valid_from is wrong: expected date, got datetime"),
    (f"{V}, per_minit = '1'", "version 2026-01-01: there is no key per_minit"),
    (f"{V}, per_minute = 0.12", 'per_minute is wrong: expected str, got float (amounts are text, in quotes: "0.12")'),
    (f"{V}, per_minute = 'NaN'", "version 2026-01-01: per_minute is 'NaN'"),
    (f"{V}, per_minute = '0.0000001'", "per_minute is '0.0000001'; write a number of at most six decimals"),
    (f"{V}, per_minute = '1e308'", "per_minute is '1e308'"),
    (f"{V}, per_minute = '{'9' * 1000}'", "per_minute is '999"),
    (f"{V}, per_minute = '-1'", "per_minute is -1, and must not be less than 0"),
    (f"{V}, per_call = ''", "per_call is ''"),
    (f"{V}, markup_percent = '-101'", "markup_percent is -101, and must not be less than -100"),
    (f"{V}, credit = '1'", "credit is for markup_percent, which is not there"),
    (f"{V}, round_up_to_s = 0", "round_up_to_s is wrong: expected int >= 1"),
    (f"{V}, round_up_to_s = true", "round_up_to_s is wrong: expected int, got bool"),
    (f"{V}, minimum_s = -1", "minimum_s is wrong: expected int >= 0"),
    (f"{V}, included_s = 1.5", "included_s is wrong: expected int, got float"),
]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [*WRONG, *((f"[plans.a]\ncurrency = 'USD'\nversions = [{{ {said} }}]", why) for said, why in WRONG_VERSIONS)],
)
def test_what_is_wrong_is_said_with_file_plan_and_key(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    said = str(caught.value)
    assert said.startswith(f"RINGLOG_BILLING_PLANS names {tmp_path / 'plans.toml'}: ")
    assert sentence in said
    assert said.endswith(".") and "\n" not in said


def test_the_documented_file_is_read_and_has_every_key(tmp_path: Path) -> None:
    page = DOCUMENTED.read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert set(read(tmp_path, example).versions) == {"standard", "sales", "acme"}
    keys = {name for shape in (_File, _Plan, _Version) for name in shape.__struct_fields__} - {"versions"}
    assert {key for key in keys if re.search(rf"^\W*{key} =|^\[+{key}\b", example, re.MULTILINE)} == keys
    table = page[page.index("| key |") : page.index("The plan of a call is")]
    assert {key for key in keys if f"{key}" in table} == keys


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: it can't be read \(No such file or directory\)\.$"):
        load_plans(load_settings(billing_plans=tmp_path / "none.toml"))


def test_billing_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "plans.toml"
    path.write_text("[plans.a]\ncurrency = 5\nversions = []")
    env = {"RINGLOG_BILLING_PLANS": str(path), "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    with logs_restored():
        result = CliRunner().invoke(app, ["consume", "billing"], env=env | {"RINGLOG_DATA_DIR": str(tmp_path)})
    assert result.exit_code == EXIT_SETTINGS
    assert "plan 'a': currency is wrong: expected str, got int" in result.stderr
