"""The user's own numbers, as a list and as patterns, and what they decide."""

import json
from urllib.parse import quote, urlencode

import pytest

from schemas.caller import Caller, CallerIdentity, DecidedBy, Direction
from schemas.end_of_call import decode_end_of_call, phone_number
from schemas.own_numbers import split_own_numbers
from schemas.prefetch import parse_prefetch

KEY = b"a key of the tests"
AGENT = "+15550001234"
CUSTOMER = "+14155550199"

LISTS = [["+1 (555) 000-1234"], ["+4930901820", "+15550001234"], ["+1555000*"], ["+4930901820", "+1 555 000-1*"]]

Identified = tuple[Caller, Direction, DecidedBy]


def identified(identity: CallerIdentity, from_: str, to: str) -> list[Identified]:
    """By a prefetch, one whose plus has become a space, and an end of call."""
    queries = (
        urlencode({"session_id": "s1", "from": from_, "to": to}),
        f"session_id=s1&from={quote(from_, safe='+')}&to={quote(to, safe='+')}",
    )
    voip = {"provider": "twilio", "from": from_, "to": to}
    body = decode_end_of_call(json.dumps({"session_id": "s1", "voip": voip}).encode())
    assert body.voip is not None
    parsed = [parse_prefetch(query.encode()) for query in queries]
    return [
        *(identity.identify("s1", query.from_, query.to, query.metadata) for query in parsed),
        identity.identify("s1", phone_number(body.voip.from_), phone_number(body.voip.to), body.metadata_map),
    ]


@pytest.mark.parametrize("own", LISTS)
@pytest.mark.parametrize(
    ("from_", "to", "direction"),
    [
        # By the page of today `from` is who calls; by an older one it is the agent. An inbound call and an outbound
        # one, each by both readings, are these two.
        (CUSTOMER, AGENT, "inbound"),
        (AGENT, CUSTOMER, "outbound"),
    ],
)
def test_both_readings_are_the_same_caller_in_both_webhooks(
    own: list[str], from_: str, to: str, direction: Direction
) -> None:
    identity = CallerIdentity(KEY, own)
    caller = Caller(identity.id_of_number(CUSTOMER), "phone", CUSTOMER)
    assert identified(identity, from_, to) == [(caller, direction, "own-number")] * 3


def test_without_own_numbers_from_is_the_caller_in_both_webhooks() -> None:
    identity = CallerIdentity(KEY)
    caller = Caller(identity.id_of_number(AGENT), "phone", AGENT)
    assert identified(identity, AGENT, CUSTOMER) == [(caller, "unknown", "from-by-default")] * 3


@pytest.mark.parametrize(
    ("number", "is_own"),
    [
        ("+1555000", True),  # no digit at all may follow
        ("+15550001", True),
        ("(555) 000-1234", True),  # national, with the region
        ("+1555001", False),
        ("+1555000x", False),
        ("sip:+15550001234@carrier.example", False),
        ("+1555000@carrier.example", False),
    ],
)
def test_a_pattern_is_of_digits(number: str, is_own: bool) -> None:
    identity = CallerIdentity(KEY, ["+1555000*"], default_region="US")
    _, direction, decided_by = identity.identify("s1", CUSTOMER, number, dict)
    expected = ("inbound", "own-number") if is_own else ("unknown", "neither-own")
    assert (direction, decided_by) == expected


def test_an_address_of_our_own_is_compared_as_it_is() -> None:
    identity = CallerIdentity(KEY, ["sip:desk@pbx.example", "1001"])
    for to in ("sip:desk@pbx.example", "1001"):
        assert identity.identify("s1", CUSTOMER, to, dict)[1:] == ("inbound", "own-number")


def test_numbers_and_patterns_are_told_apart() -> None:
    entries = ["+15551234567", " 1 555", "1001", "sip:a*b", "+1 (555) 000-*", "+4930*"]
    with pytest.raises(ValueError, match="sip:a"):
        split_own_numbers(entries)
    assert split_own_numbers(entries[:3] + entries[4:]) == (entries[:3], ("+1555000", "+4930"))


@pytest.mark.parametrize("entry", ["+1*555", "*", "1555000*", "+1555000**", "+1555000*4", "+0555000*", "agent*", "+*"])
def test_a_pattern_is_a_plus_digits_and_one_star(entry: str) -> None:
    with pytest.raises(ValueError, match="is no pattern; write a plus, digits and one"):
        CallerIdentity(KEY, [entry])


@pytest.mark.parametrize("entry", ["+1*", "+49*", "+155*"])
def test_a_pattern_is_no_country(entry: str) -> None:
    with pytest.raises(ValueError, match="may be every number of a country"):
        CallerIdentity(KEY, [entry])


@pytest.mark.parametrize("entry", ["agents", "+", "+1555123456?", "+1555000xxxx", "()"])
def test_what_is_no_number_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is no number; write"):
        CallerIdentity(KEY, [entry])
