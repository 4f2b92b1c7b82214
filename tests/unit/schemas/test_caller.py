"""Who the customer of a call is."""

import json
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.caller import Caller, CallerIdentity
from schemas.end_of_call import decode_end_of_call, phone_number
from schemas.prefetch import parse_prefetch

KEY = b"a key of the tests"
OWN = "+18005550100"
CUSTOMER = "+14155550199"

plain = CallerIdentity(KEY)
with_own = CallerIdentity(KEY, own_numbers=["+1 (800) 555-0100"])
in_germany = CallerIdentity(KEY, default_region="DE")


def test_the_caller_is_from_when_no_own_number_is_known() -> None:
    caller, *decision = plain.identify("s1", CUSTOMER, OWN, dict)
    assert (caller.kind, caller.number, decision) == ("phone", CUSTOMER, ["unknown", "from-by-default"])


def test_both_readings_of_the_providers_pages_give_the_same_caller() -> None:
    inbound, outbound = with_own.identify("s1", CUSTOMER, OWN, dict), with_own.identify("s2", OWN, CUSTOMER, dict)
    assert inbound[0] == outbound[0] == Caller(with_own.id_of_number(CUSTOMER), "phone", CUSTOMER)
    assert (inbound[1:], outbound[1:]) == (("inbound", "own-number"), ("outbound", "own-number"))


def test_the_query_and_the_body_give_the_same_caller() -> None:
    query, body = (
        with_own.identify("s1", " 14155550199", " 18005550100", dict),
        with_own.identify("s1", CUSTOMER, OWN, dict),
    )
    assert query == body


@pytest.mark.parametrize(
    ("from_", "to", "caller", "decision"),
    [
        (OWN, OWN, OWN, ("unknown", "both-own")),
        (CUSTOMER, "+4930123456", CUSTOMER, ("unknown", "neither-own")),
        (CUSTOMER, None, CUSTOMER, ("unknown", "neither-own")),
        # `to` alone, and not known as ours: it may be a number of ours that nobody told us, and no caller's.
        (None, CUSTOMER, None, ("unknown", "neither-own")),
        (None, OWN, None, ("inbound", "own-number")),
        (OWN, None, None, ("outbound", "own-number")),
        ("anonymous", OWN, None, ("inbound", "own-number")),
        (None, None, None, ("web", "no-numbers")),
    ],
)
def test_every_decision_has_its_reason(
    from_: str | None, to: str | None, caller: str | None, decision: tuple[str, str]
) -> None:
    found, *decided = with_own.identify("s1", from_, to, dict)
    assert (found.number, tuple(decided)) == (caller, decision)


@pytest.mark.parametrize(
    "number", [" 14155550199", "+14155550199", "+1 415 555 0199", "+1-415-555-0199", "0014155550199"]
)
def test_one_number_in_many_notations_is_one_caller(number: str) -> None:
    identity = CallerIdentity(KEY, default_region="DE")  # from Germany one dials 00 for +
    assert identity.identify("s1", number, None, dict)[0].number == CUSTOMER


def test_a_national_number_needs_a_region() -> None:
    assert in_germany.e164("030 901820") == "+4930901820"
    assert plain.e164("030 901820") is None


# What lies in the body's voip.from, and the same in the query, where some senders leave the plus as it is.
NOTATIONS: list[tuple[object, str]] = [
    ("+14155550199", "%2B14155550199"),
    ("+14155550199", "+14155550199"),
    (" 14155550199", "+14155550199"),
    (" 14155550199", "%2014155550199"),
    ("+1 415 555 0199", "+1+415+555+0199"),
    (" 1 415 555 0199", "%2B1%20415%20555%200199"),
    ("+1 (415) 555-0199", "+1+(415)+555-0199"),
    (" +1-415-555-0199 ", "%20%2B1-415-555-0199+"),
    ("14155550199", "14155550199"),
    (14155550199, "14155550199"),
    (14155550199, "+14155550199"),
]


def caller_of_query(identity: CallerIdentity, number: str) -> Caller:
    query = parse_prefetch(f"session_id=s1&from={number}".encode())
    return identity.identify("s1", query.from_, query.to, query.metadata)[0]


def caller_of_body(identity: CallerIdentity, number: object) -> Caller:
    call = decode_end_of_call(json.dumps({"session_id": "s1", "voip": {"from": number}}).encode())
    assert call.voip is not None
    return identity.identify("s1", phone_number(call.voip.from_), phone_number(call.voip.to), call.metadata_map)[0]


@pytest.mark.parametrize("region", [None, "US", "FR"])
@pytest.mark.parametrize(("sent", "query"), NOTATIONS)
def test_both_webhooks_know_the_same_caller_by_any_notation(sent: object, query: str, region: str | None) -> None:
    identity = CallerIdentity(KEY, default_region=region)
    assert caller_of_query(identity, query) == caller_of_body(identity, sent)
    assert caller_of_body(identity, sent) == Caller(identity.id_of_number(CUSTOMER), "phone", CUSTOMER)


@given(
    st.one_of(st.integers(0, 10**16), st.from_regex(r"[+ ]{0,2}[0-9]([ ()-]?[0-9]){5,15} ?", fullmatch=True)),
    st.sampled_from([None, "US", "DE"]),
)
def test_both_webhooks_know_the_same_caller(sent: str | int, region: str | None) -> None:
    identity = CallerIdentity(KEY, default_region=region)
    assert caller_of_query(identity, quote(str(sent))) == caller_of_body(identity, sent)
    # A plus that is not encoded arrives as a space.
    assert caller_of_query(identity, str(sent).replace(" ", "%20")) == caller_of_body(
        identity, sent if isinstance(sent, int) else sent.replace("+", " ")
    )


def test_digits_alone_are_national_where_they_can_be() -> None:
    assert CallerIdentity(KEY, default_region="US").e164("4155550199") == CUSTOMER
    assert plain.e164("4155550199") is None  # too short for +41
    assert plain.e164("0014155550199") is None  # who dials 00 for a plus depends on the region


STRANGERS = [
    "anonymous",
    "Anonymous",
    "Restricted",
    "unknown",
    "+7378742833",
    " 266696687",
    "sip:4155550199@carrier.example",
    "4155550199@10.0.0.1",
    "sip:bob@example.com",
    "+0987654321",  # the provider's own example: no country code begins with 0
    "+1",
    "+12345678901234567890",
    "0000",
    "",
    "   ",
    "+1415555o199",
    "1-800-FLOWERS" * 9,
    "\x00",
    "+１４１５５５５０１９９９９９９９９９",
]


@pytest.mark.parametrize("number", STRANGERS)
def test_strangers_never_share_a_profile(number: str) -> None:
    one, *_ = plain.identify("s1", number, OWN, dict)
    other, *_ = plain.identify("s2", number, OWN, dict)
    assert (one.kind, one.number) == ("session", None)
    assert one.id != other.id


@pytest.mark.parametrize(
    "metadata", [{}, {"user": None}, {"user": ""}, {"user": True}, {"user": ["a"]}, {"other": "a"}]
)
def test_a_web_session_without_its_key_is_its_session(metadata: dict[str, object]) -> None:
    identity = CallerIdentity(KEY, metadata_key="user")
    caller, direction, _ = identity.identify("s1", None, None, lambda: metadata)
    assert (caller, direction) == (plain.identify("s1", None, None, dict)[0], "web")
    assert caller.kind == "session"


def test_a_metadata_key_names_web_callers() -> None:
    identity = CallerIdentity(KEY, metadata_key="user")
    one, direction, _ = identity.identify("s1", None, None, lambda: {"user": " 42 "})
    assert (one.kind, one.number, direction) == ("metadata", None, "web")
    assert identity.identify("s2", None, None, lambda: {"user": 42})[0] == one
    assert identity.identify("s3", CUSTOMER, None, lambda: {"user": 42})[0].kind == "phone"  # a number goes first


def test_kinds_never_meet() -> None:
    identity = CallerIdentity(KEY, metadata_key="user")
    ids = {
        identity.identify("s", CUSTOMER, None, dict)[0].id,
        identity.identify("s", None, None, lambda: {"user": CUSTOMER})[0].id,
        identity.identify(CUSTOMER, None, None, dict)[0].id,
    }
    assert len(ids) == 3


def test_the_id_is_keyed_and_tells_nobody_the_number() -> None:
    id_ = plain.id_of_number(CUSTOMER)
    assert id_ != CallerIdentity(b"another key").id_of_number(CUSTOMER)
    assert len(id_) == 32
    assert set(id_) <= set(string.hexdigits)
    # Written down: stores and topics hold these ids, so a change of the hash is a change of every caller.
    assert id_ == "eafa0448f1c0d3384d9013a040aa65d5"


@given(st.text(), st.one_of(st.none(), st.text()), st.one_of(st.none(), st.text()))
def test_no_text_raises(session: str, from_: str | None, to: str | None) -> None:
    for identity in (plain, with_own, in_germany):
        caller, *_ = identity.identify(session, from_, to, dict)
        assert (caller.number is not None) == (caller.kind == "phone")


@given(st.from_regex(r"[+ ][1-9][0-9]{6,14}", fullmatch=True))
def test_the_shape_of_e164_is_taken_as_it_is(number: str) -> None:
    assert plain.e164(number) in ("+" + number[1:], None)
