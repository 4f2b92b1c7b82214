"""Bills for spreadsheets: the amounts are numbers, and no name is a formula."""

import pytest

from cli.billing_text import csv_rows
from consumers.billing_report import Line


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
