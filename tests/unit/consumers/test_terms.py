"""What a call costs by the terms of a plan: exact, and unknown where something is unknown."""

from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumers.terms import Price, Terms, price, read_terms
from schemas.money import MAX_MICROS

FREE = Terms(
    plan="p",
    valid_from=date(2026, 1, 1),
    currency="EUR",
    per_minute_micros=0,
    round_up_to_s=1,
    minimum_s=0,
    included_s=0,
    per_call_micros=0,
    markup_micros=None,
    credit_micros=1_000_000,
)
TWELVE_CENTS = replace(FREE, per_minute_micros=120_000)


def terms(**changes: Any) -> Terms:
    return replace(TWELVE_CENTS, **changes)


@pytest.mark.parametrize(
    ("round_up_to_s", "duration_ms", "billed_s", "micros"),
    [
        (1, 1, 1, 2_000),
        (1, 61_000, 61, 122_000),
        (6, 61_000, 66, 132_000),
        (60, 61_000, 120, 240_000),
        (60, 60_000, 60, 120_000),
        (60, 60_001, 120, 240_000),
        (60, 0, 0, 0),
    ],
)
def test_a_duration_is_rounded_up_to_the_step(round_up_to_s: int, duration_ms: int, billed_s: int, micros: int) -> None:
    due = price(terms(round_up_to_s=round_up_to_s), duration_ms, None)
    assert (due.billed_s, due.minutes_micros, due.amount_micros) == (billed_s, micros, micros)


def test_the_included_time_goes_first_and_the_minimum_is_for_what_is_left() -> None:
    rule = terms(included_s=60, round_up_to_s=6, minimum_s=30)
    assert [price(rule, ms, None).billed_s for ms in (0, 60_000, 60_001, 95_000)] == [0, 0, 30, 36]


def test_the_parts_are_added_and_each_is_rounded_half_to_even() -> None:
    rule = terms(per_minute_micros=30, per_call_micros=50_000, markup_micros=20_000_000)
    assert price(rule, 1_000, 34_300) == Price(1, 0, 50_000, 41_160)  # half a millionth is even at 0
    assert price(rule, 3_000, 34_300).minutes_micros == 2  # and one and a half at 2
    assert price(rule, 1_000, 34_300).amount_micros == 91_160


def test_a_markup_may_be_a_discount_and_a_credit_may_be_worth_less() -> None:
    assert price(replace(FREE, markup_micros=-100_000_000), None, 5).amount_micros == 0
    assert price(replace(FREE, markup_micros=-10_000_000), None, 1_000).amount_micros == 900
    assert price(replace(FREE, markup_micros=0, credit_micros=920_000), None, 1_000).amount_micros == 920
    assert price(replace(FREE, markup_micros=0), None, -1_000).amount_micros == -1_000


def test_what_the_plan_needs_and_nobody_knows_makes_the_amount_unknown() -> None:
    both = terms(markup_micros=0)
    assert price(both, None, 5) == Price(None, None, 0, 5)
    assert price(both, 1_000, None) == Price(1, 2_000, 0, None)
    assert price(both, None, 5).amount_micros is None
    assert price(both, 1_000, None).amount_micros is None
    assert price(both, 1_000, 0).amount_micros == 2_000  # free is known
    assert price(TWELVE_CENTS, 1_000, None).amount_micros == 2_000  # the cost is nothing to this plan
    assert price(replace(FREE, per_call_micros=7), None, None).amount_micros == 7


def test_an_amount_that_can_be_no_price_is_unknown() -> None:
    assert price(terms(per_minute_micros=MAX_MICROS), 60_001, None).minutes_micros is None
    assert price(replace(FREE, markup_micros=0), None, MAX_MICROS + 1).passed_on_micros is None
    most = terms(per_minute_micros=MAX_MICROS, per_call_micros=1)
    assert price(most, 60_000, None).amount_micros is None


AMOUNTS = st.integers(0, 10**9)


@given(AMOUNTS, AMOUNTS, st.integers(-(10**8), 10**9), AMOUNTS, st.integers(0, 10**8), st.sampled_from([1, 6, 60]))
def test_a_price_is_never_further_from_the_exact_one_than_half_a_millionth_a_part(
    per_minute: int, cost: int, markup: int, credit: int, duration_ms: int, step: int
) -> None:
    rule = terms(per_minute_micros=per_minute, round_up_to_s=step, markup_micros=markup, credit_micros=credit)
    due = price(rule, duration_ms, cost)
    exact_cost = Fraction(cost) * credit / 10**6 * (10**8 + markup) / 10**8
    if due.passed_on_micros is not None:
        assert abs(due.passed_on_micros - exact_cost) <= Fraction(1, 2)
    assert due.billed_s is not None
    assert per_minute == 0 or (due.billed_s % step == 0 and due.billed_s * 1000 >= duration_ms)
    if due.minutes_micros is not None:
        assert abs(due.minutes_micros - Fraction(per_minute * due.billed_s, 60)) <= Fraction(1, 2)


def test_terms_are_known_by_a_digest_of_all_they_say() -> None:
    assert read_terms(TWELVE_CENTS.text) == TWELVE_CENTS
    assert TWELVE_CENTS.digest == read_terms(TWELVE_CENTS.text).digest
    assert len({TWELVE_CENTS.digest, FREE.digest, terms(plan="q").digest, terms(currency="USD").digest}) == 4
