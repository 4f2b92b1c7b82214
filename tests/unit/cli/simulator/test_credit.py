"""Each notation is worth the amount that was drawn, by the rule of the design: half-even at the millionth."""

import json
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal

import pytest

from cli.simulator.credit import NOTATIONS, draw_micros, literal
from cli.simulator.dice import dice

AMOUNTS = (1, 2, 10, 4300, 4301, 999_999, 1_000_000, 12_000_000, 193_015_786, 250_000_000)


@pytest.mark.parametrize("notation", NOTATIONS, ids=lambda notation: notation.__name__)
@pytest.mark.parametrize("micros", AMOUNTS)
def test_a_literal_is_worth_its_amount(notation: Callable[[int], str], micros: int) -> None:
    sent = json.loads(notation(micros), parse_float=Decimal, parse_int=Decimal)
    assert (Decimal(sent) * 1_000_000).quantize(Decimal(1), ROUND_HALF_EVEN) == micros


def test_the_notations_look_as_the_provider_and_json_may_write_them() -> None:
    assert [notation(4300) for notation in NOTATIONS] == [
        "0.0043",
        "0.00430000",
        "4.3e-3",
        "4.3E-3",
        "4300e-6",
        '"0.0043"',
        "0.00430049",
        "0.00429951",
        "0.0043005",
    ]


def test_every_notation_is_used() -> None:
    throw = dice("credits")
    written = {literal(12_000_000, throw) for _ in range(300)}
    assert b"12" in written and b"1.2e1" in written and b'"12"' in written and len(written) == len(NOTATIONS)
    assert all(draw_micros(throw) > 0 for _ in range(300))
