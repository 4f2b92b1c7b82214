"""Bills for spreadsheets: the amounts are numbers, and no name is a formula. And for people: the rule of a price."""

from datetime import date

import pytest

from cli.billing_text import _rule, csv_rows
from consumers.billing_report import Line
from consumers.terms import Terms


@pytest.mark.parametrize("name", ["-OmNNf485Na8Bw82RSfz", "=HYPERLINK(1)", "+15550100", "@SUM(1)", "'quoted"])
def test_no_name_in_a_report_is_a_formula(name: str) -> None:
    _, row = csv_rows("agent", [Line(name, name, 1)])
    assert (row[0], row[5]) == ("'" + name, "'" + name)


def test_amounts_below_zero_stay_numbers() -> None:
    _, row = csv_rows("agent", [Line(None, "USD", 1, 0, -1_500_000, 0, -20_000)])
    assert row == ("", "1", "0", "-1.5", "-0.02", "USD", "0")


def test_a_report_drives_no_terminal() -> None:
    _, row = csv_rows("agent", [Line("\x1b[31mred", None)])
    assert row[0] == "\ufffd[31mred"


def test_the_rule_of_the_minutes_is_said_in_the_order_in_which_it_is_applied() -> None:
    rule = Terms(
        plan="p",
        valid_from=date(2026, 1, 1),
        currency="EUR",
        per_minute_micros=1,
        round_up_to_s=6,
        minimum_s=45,
        included_s=60,
        per_call_micros=0,
        markup_micros=None,
        credit_micros=1_000_000,
    )
    assert _rule(rule) == " (beyond the first 60 s, at least 45 s, rounded up to 6 s)"
