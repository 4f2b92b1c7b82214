"""Money is exact: the literal's own value, a million times, rounded half to even."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import (
    MAX_MICROS,
    MICROS_PER_CREDIT,
    MoneyError,
    credits_text,
    divided,
    exact_micros_of_literal,
    micros_of_json,
    micros_of_literal,
)

literals = st.builds(
    lambda sign, whole, part, exponent: f"{sign}{whole}{part}{exponent}",
    st.sampled_from(("", "-")),
    st.integers(0, 10**9 - 1).map(str),
    st.one_of(st.just(""), st.text("0123456789", min_size=1, max_size=30).map(lambda digits: f".{digits}")),
    st.sampled_from(("", "e0", "E-3", "e-12")),
)


@given(literals)
def test_the_literal_decides_not_a_float(literal: str) -> None:
    # Python's round() of a Fraction is half to even, and knows no precision.
    assert micros_of_literal(literal) == round(Fraction(literal) * MICROS_PER_CREDIT)


@given(literals, st.booleans())
def test_in_json_it_is_the_same(literal: str, quoted: bool) -> None:
    """However short it is: most are read by a way of their own."""
    assert micros_of_json(f'"{literal}"'.encode() if quoted else literal.encode()) == micros_of_literal(literal)


@given(st.text("0123456789.-_ ne", max_size=18))
def test_in_json_the_same_is_refused(text: str) -> None:
    try:
        expected = micros_of_literal(text.strip())
    except MoneyError:
        with pytest.raises(MoneyError):
            micros_of_json(text.encode())
    else:
        assert text.strip().startswith(".") or micros_of_json(text.encode()) == expected


@pytest.mark.parametrize(
    ("literal", "micros"),
    [
        ("0.0043", 4300),
        ("0.05", 50_000),
        ("0", 0),
        ("-0.0", 0),
        ("0e99", 0),
        ("-1.5", -1_500_000),
        ("1e3", 1_000_000_000),
        ("4.3E-3", 4300),
        ("0.0000005", 0),  # half to even, downwards
        ("0.0000015", 2),  # half to even, upwards
        ("0.0000025", 2),
        ("0.00000050000000000000000000000000000001", 1),  # more than half, in the 38th place
        ("1e-400", 0),
        ("0.1234565", 123_456),
        ("999999999.999999", 999_999_999_999_999),
        ("1000000000", MAX_MICROS),
    ],
)
def test_literals(literal: str, micros: int) -> None:
    assert micros_of_literal(literal) == micros
    assert micros_of_json(literal.encode()) == micros
    assert micros_of_json(f' "{literal}" '.encode()) == micros


@pytest.mark.parametrize(
    "literal",
    [
        *"NaN sNaN Infinity -Infinity inf 1_000 0x10 1,5 1.5€ ١٢ １ . e5 1e 1e99999999999999999999".split(),
        *"1e999999999 1000000001 -1000000001".split(),
        *("", " ", "1 2", "9" * 65, "1" + "0" * 64),
    ],
)
def test_what_is_no_amount_is_refused_at_once(literal: str) -> None:
    before = time.perf_counter()
    with pytest.raises(MoneyError):
        micros_of_literal(literal)
    assert time.perf_counter() - before < 0.1  # Decimal works on 1e999999999 for minutes when one lets it


@pytest.mark.parametrize("raw", [b"null", b' "" ', b'"  "'])
def test_null_and_blank_are_unknown_and_not_zero(raw: bytes) -> None:
    assert micros_of_json(raw) is None


@pytest.mark.parametrize("raw", [b"true", b"[1]", b'{"amount":1}', b'"\xff"', b"NaN", b"Infinity", b""])
def test_json_that_is_no_number_is_refused(raw: bytes) -> None:
    with pytest.raises(MoneyError):
        micros_of_json(raw)


@given(st.integers(-MAX_MICROS, MAX_MICROS))
def test_text_for_people_is_exact(micros: int) -> None:
    assert micros_of_literal(credits_text(micros)) == micros


@pytest.mark.parametrize(("micros", "text"), [(4300, "0.0043"), (0, "0"), (-1_500_000, "-1.5"), (30_000_000, "30")])
def test_text_for_people(micros: int, text: str) -> None:
    assert credits_text(micros) == text


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**12))
def test_a_quotient_is_rounded_half_to_even(numerator: int, denominator: int) -> None:
    assert divided(numerator, denominator) == round(Fraction(numerator, denominator))


def test_a_price_that_would_have_to_be_rounded_is_refused() -> None:
    assert exact_micros_of_literal("0.120000000") == 120_000
    assert exact_micros_of_literal("1e-6") == 1
    for literal in ("0.0000001", "0.1234565", "1e-7"):
        with pytest.raises(MoneyError, match="more than six decimals"):
            exact_micros_of_literal(literal)
