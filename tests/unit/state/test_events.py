"""The quick way to read an event says what the slow one says."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.money import MoneyError, micros_of_json
from state.events import MAX_CALL_MICROS, Unreadable, read_ended, read_fact, read_prefetched
from state.session import session_key
from tests.unit.state.events import ended_raw, prefetched

literals = st.decimals(allow_nan=False, allow_infinity=False, places=9).map(lambda d: format(d, "f")) | st.builds(
    lambda whole, part: f"{whole}.{part}", st.integers(-(10**7), 10**7), st.from_regex(r"[0-9]{1,12}", fullmatch=True)
)


def cost_in_state(credit: str) -> tuple[int | None, str | None]:
    """The cost of a call with this one price, and the complaint about it."""
    body = b'{"cost_breakdown":[{"credit":%s}]}' % credit.encode()
    read = read_ended(ended_raw("s", "ann", body).value, 9)
    return read.revision.cost_micros, read.cost_error


@settings(max_examples=500)
@given(literals)
@example("0.0000005")
@example("0.0000015")
@example("0.00000050000001")
@example("999999.9999995")
@example("1000000")
@example("1000000.0000001")
@example("1000000.0000005")
@example("1000000.00000051")
@example("-0.0000005")
@example("1e-7")
@example("12345.6789005")
@example("1e999")
def test_quick_micros_are_the_exact_ones(literal: str) -> None:
    try:
        exact = micros_of_json(literal.encode())
    except MoneyError:
        exact = None
    cost, complaint = cost_in_state(literal)
    if exact is None or abs(exact) > MAX_CALL_MICROS:
        assert cost is None
        assert complaint is not None
        return
    assert (cost, complaint) == (exact, None)
    assert abs(Decimal(literal) * 1_000_000 - exact) <= Decimal("0.5")


@pytest.mark.parametrize("credit", ['"0.5"', "null", '""', '" 1.5 "', "0", "-0.0", "1E2"])
def test_credits_of_other_kinds_are_read_as_the_bill_reads_them(credit: str) -> None:
    assert cost_in_state(credit) == (micros_of_json(credit.encode()), None)


def test_keys_of_sessions_lie_in_the_order_of_time() -> None:
    """As push ids do: their first characters are the time."""
    early, late = "-OA1XVnwzzzzzzzzzzzz", "-OA1XVnx000000000000"
    assert session_key(early) < session_key(late)
    assert len({len(session_key(id_)) for id_ in ("", "s", early, "x" * 999, "\u00e4" * 5)}) == 1


def test_ids_that_begin_alike_have_keys_of_their_own() -> None:
    ids = ["-OA1XVnw", "-OA1XVnw\0", "-OA1XVnwa", "-OA1XVnwb", "", "\0"]
    assert len({session_key(id_) for id_ in ids}) == len(ids)


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**12), 10**12)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "ts": numbers,
        "duration": numbers,
        "call_status": st.none() | st.sampled_from(("timeout", "sold")),
        "metadata": st.none() | st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
        "cost_breakdown": st.none() | st.lists(st.fixed_dictionaries({}, optional={"credit": numbers}), max_size=3),
    },
)


@settings(max_examples=500)
@given(bodies)
def test_quick_and_lenient_reading_say_the_same(body: dict[str, object]) -> None:
    encoded = msgspec.json.encode(body)
    # A status that is a number sends it the lenient way, and costs nothing but the status.
    odd = encoded[:-1] + (b"," if body else b"") + b'"call_status":7}'
    quick = read_ended(ended_raw("s", "ann", encoded).value, 9)
    slow = read_ended(ended_raw("s", "ann", odd).value, 9)
    plain = msgspec.structs.replace
    assert plain(quick.revision, event_id="", status=None) == plain(slow.revision, event_id="", status=None)
    assert (quick.cost_error is None) == (slow.cost_error is None)


def test_sealed_event_is_for_a_later_version() -> None:
    value = prefetched("s", "ann").value
    assert value is not None
    with pytest.raises(Unreadable):
        read_prefetched(value.replace(b'"body"', b'"sealed"'), 1)


@pytest.mark.parametrize("key", [None, b"", b"ann", b"ann/", b"/vip", b"\xff/vip", b"x" * 101 + b"/vip"])
def test_key_that_is_no_facts_is_unreadable(key: bytes | None) -> None:
    with pytest.raises(Unreadable):
        read_fact(key, None)
