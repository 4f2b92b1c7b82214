"""What identifies, orders and describes an event."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.caller import Caller
from schemas.event import ENDED, Envelope, Record, decode_envelope, event_id, headers_of, ordering, rfc3339

CALLER = Caller("c1", "phone", "+14155550199")


def envelope(received_at: int = 1, id_: str = "e1", *, recovered: bool = False) -> Envelope:
    return Envelope(
        recovered=recovered,
        event_id=id_,
        received_at=received_at,
        session_id="s1",
        agent_id="-OmNNf485Na8Bw82RSfz",
        caller=CALLER,
        direction="inbound",
        body=msgspec.Raw(b'{"ts": 1729840680.886249, "unknown": [1.10]}'),
    )


def test_the_same_delivery_is_the_same_event() -> None:
    assert event_id("ended", "s1", b"{}") == event_id("ended", "s1", b"{}")
    # Written down: an id made by an older version must be made by a newer one, or a repetition becomes a revision.
    assert event_id("ended", "s1", b"{}") == "b8bfaea4fdc32b0396ab0aeed72d005f"


def test_another_kind_session_or_body_is_another_event() -> None:
    ids = {
        event_id(*parts)
        for parts in [
            ("ended", "s1", b"{}"),
            ("prefetch", "s1", b"{}"),
            ("ended", "s2", b"{}"),
            ("ended", "s1", b"{ }"),
            ("ended", "s", b"1{}"),
        ]
    }
    assert len(ids) == 5


@given(st.text(), st.binary())
def test_an_id_is_32_hex_digits(session: str, body: bytes) -> None:
    id_ = event_id("ended", session, body)
    assert len(id_) == 32
    int(id_, 16)


def test_the_body_travels_verbatim() -> None:
    value = msgspec.json.encode(envelope())
    assert b'{"ts": 1729840680.886249, "unknown": [1.10]}' in value
    assert decode_envelope(value) == envelope()


def test_an_event_from_before_there_was_a_reason_is_read() -> None:
    # Written down: such events lie in topics for ever.
    old = (
        b'{"event_id":"e1","received_at":1,"session_id":"s1","agent_id":"-OmNNf485Na8Bw82RSfz","caller":{"id":"c1",'
        b'"kind":"phone","number":"+14155550199"},"direction":"inbound","body":'
        b'{"ts": 1729840680.886249, "unknown": [1.10]}}'
    )
    assert decode_envelope(old) == envelope()
    assert decode_envelope(old).decided_by is None


@pytest.mark.parametrize("word", ["own-number", "a-word-of-tomorrow"])
def test_the_reason_of_the_direction_is_read_also_when_it_is_a_new_one(word: str) -> None:
    said = msgspec.structs.replace(envelope(), decided_by=word)
    assert decode_envelope(msgspec.json.encode(said)) == said


@pytest.mark.parametrize("received_at", [-(10**17), -1, 32_503_680_000_000_001, 10**18, 10**30])
def test_a_time_of_receipt_that_could_not_be_written_makes_an_event_unreadable(received_at: int) -> None:
    with pytest.raises(msgspec.ValidationError, match="received_at"):
        decode_envelope(msgspec.json.encode(envelope(received_at)))


@pytest.mark.parametrize("received_at", [0, 32_503_680_000_000_000])
def test_every_time_of_receipt_that_is_read_can_be_written(received_at: int) -> None:
    assert rfc3339(decode_envelope(msgspec.json.encode(envelope(received_at))).received_at)[0] in "13"


def test_a_caller_without_a_number_has_no_such_member() -> None:
    assert msgspec.json.encode(Caller("c1", "session")) == b'{"id":"c1","kind":"session"}'


def test_attributes_are_those_of_cloudevents() -> None:
    assert headers_of(ENDED, "e1", 1_729_840_680_886_249, "s1") == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e1"),
        ("ce_source", b"/ringlog"),
        ("ce_type", b"ringlog.call.ended"),
        ("ce_time", b"2024-10-25T07:18:00.886249Z"),
        ("content-type", b"application/json"),
        ("ce_subject", b"s1"),
    ]


def test_a_subject_is_always_utf8() -> None:
    assert headers_of(ENDED, "e1", 0, "s\ud800ü")[-1] == ("ce_subject", b"s?\xc3\xbc")


@pytest.mark.parametrize(
    ("time_us", "text"),
    [(0, "1970-01-01T00:00:00.000000Z"), (1, "1970-01-01T00:00:00.000001Z"), (-1, "1969-12-31T23:59:59.999999Z")],
)
def test_times(time_us: int, text: str) -> None:
    assert rfc3339(time_us) == text


def test_revisions_are_ordered_by_time_then_id() -> None:
    appended_ms = 10_000
    keys = [ordering(envelope(*parts), appended_ms) for parts in [(5, "b"), (5, "a"), (4, "z")]]
    assert sorted(keys) == [(True, 4, "z"), (True, 5, "a"), (True, 5, "b")]


def test_what_the_api_says_never_outranks_a_webhook() -> None:
    recovered = ordering(envelope(9_000_000, recovered=True), 10_000)
    assert recovered < ordering(envelope(1), 10_000)
    assert ordering(envelope(8_000_000, "z", recovered=True), 10_000) < recovered


def test_an_envelope_says_that_it_was_recovered_only_when_it_was() -> None:
    assert b"recovered" not in msgspec.json.encode(envelope())
    assert decode_envelope(msgspec.json.encode(envelope(recovered=True))).recovered


def test_no_event_was_received_after_it_was_appended() -> None:
    assert ordering(envelope(received_at=10_000_999), 10_000) == (True, 10_000_999, "e1")
    assert ordering(envelope(received_at=10_001_000), 10_000) == (True, 10_000_999, "e1")


def test_the_last_header_of_a_name_counts() -> None:
    record = Record(
        topic="calls.ended",
        partition=0,
        offset=0,
        appended_ms=0,
        key=None,
        value=None,
        headers=[("ce_type", b"first"), ("ce_type", ENDED.encode()), ("odd", b"\xff")],
    )
    assert record.event_type == ENDED
    assert record.header("odd") == "\ufffd"
    assert record.header("absent") is None
