"""The end-of-call body, documented and odd: one odd member never costs the rest."""

import json
import re
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.chat import Turn
from schemas.end_of_call import EndOfCall, decode_end_of_call, identifier
from schemas.lenient import UNREADABLE, members_of, mend_surrogates
from schemas.status import CallStatus

# The provider's documented example, made valid JSON.
DOCUMENTED: dict[str, Any] = {
    "chat": '[{"role": "user", "content": "Hi, I\'d like to book a flight."},'
    ' {"role": "assistant", "content": "Sure! Can you provide the destination and date?"}]',
    "function_calls": [{"name": "check_status", "params": {"check": "true", "order_id": 6689}}],
    "ts": 1729840680.886249,
    "duration": 300,
    "agent_config": {},
    "agent_id": "agent001",
    "call_id": "call123",
    "chars_used": 1024,
    "session_id": "session123",
    "cost_breakdown": [{"type": "stt", "provider": "millis", "credit": 0.05}],
    "voip": {"provider": "twilio", "from": "+1234567890", "to": "+0987654321"},
    "recording": {"recording_url": "https://your-recording-url.com/recording123"},
    "metadata": {"customer_tier": "gold"},
    "call_status": "user-ended",
    "error_message": None,
}


def decoded(**changes: Any) -> EndOfCall:
    return decode_end_of_call(json.dumps({**DOCUMENTED, **changes}).encode())


def test_the_documented_example() -> None:
    call = decoded()
    assert (call.session_id, call.agent_id, call.call_id) == ("session123", "agent001", "call123")
    assert (call.started_at_us, call.duration_ms, call.chars_used) == (1_729_840_680_886_249, 300_000, 1024)
    assert call.status == CallStatus("user-ended", "user-ended")
    assert call.recording_url == "https://your-recording-url.com/recording123"
    assert call.metadata_map() == {"customer_tier": "gold"}
    assert call.voip is not None
    assert (call.voip.from_, call.voip.to) == ("+1234567890", "+0987654321")
    assert call.chat_turns().turns[0] == Turn("user", "Hi, I'd like to book a flight.", "user")
    assert call.functions().calls[0].name == "check_status"
    cost = call.cost()
    assert cost is not None
    assert cost.total_micros == 50_000


@pytest.mark.parametrize("name", list(DOCUMENTED))
def test_every_member_may_be_null_or_absent(name: str) -> None:
    absent = json.dumps({other: value for other, value in DOCUMENTED.items() if other != name}).encode()
    assert plain(decoded(**{name: None})) == plain(decode_end_of_call(absent))


def test_an_empty_object_is_a_call_of_which_nothing_is_known() -> None:
    call = decode_end_of_call(b"{}")
    assert (call.session_id, call.started_at_us, call.duration_ms, call.recording_url, call.cost()) == (None,) * 5
    assert call.status == CallStatus(None, None)
    assert (call.chat_turns().state, call.functions().state, call.metadata_map()) == ("none", "none", {})


ODD = [5, -1.5, True, "text", [], [1], {}, {"a": {"b": []}}, "\x00", 10**30, ""]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("name", list(DOCUMENTED))
def test_an_odd_member_costs_no_other(name: str, odd: object) -> None:
    call = decoded(**{name: odd})
    others = [other for other in call.__struct_fields__ if other != name]
    assert [plain(call)[other] for other in others] == [plain(decoded())[other] for other in others]


@pytest.mark.parametrize("odd", [None, 5, [], {"name": "twilio"}, True])
def test_an_odd_part_of_a_member_costs_no_other_part(odd: object) -> None:
    call = decoded(voip={"provider": odd, "from": "+14155550199", "to": "+18005550100", "sip_headers": {}})
    assert call.voip is not None
    assert (call.voip.from_, call.voip.to) == ("+14155550199", "+18005550100")


def test_unknown_members_are_no_error() -> None:
    assert plain(decoded(call_metrics={"latency": [1, 2]}, call_analysis={"opt_out_detection": None})) == plain(
        decoded()
    )


@pytest.mark.parametrize(
    ("sent", "milliseconds"),
    [(300, 300_000), (12.3456, 12_346), (0, 0), (None, None), (-1, None), (10**12, None), ("long", None), (True, None)],
)
def test_durations(sent: object, milliseconds: int | None) -> None:
    assert decoded(duration=sent).duration_ms == milliseconds


@pytest.mark.parametrize(
    ("sent", "micros"),
    [
        (1729840680, 1_729_840_680_000_000),
        (1729840680.886249, 1_729_840_680_886_249),
        (1729840680886, None),  # milliseconds are no seconds: rather unknown than in the year 56785
        (0, None),
        (-5, None),
        ("2024-10-25", None),
    ],
)
def test_times_of_start(sent: object, micros: int | None) -> None:
    assert decoded(ts=sent).started_at_us == micros


@pytest.mark.parametrize("raw", [b'{"duration":1e400,"ts":1e400}', b'{"duration":NaN}', b'{"duration":Infinity}'])
def test_numbers_beyond_numbers(raw: bytes) -> None:
    try:
        call = decode_end_of_call(raw)
    except UNREADABLE:
        return  # NaN and Infinity are no JSON
    assert (call.duration_ms, call.started_at_us) == (None, None)


@pytest.mark.parametrize("sent", [None, {}, {"recording_url": None}, {"recording_url": " "}, {"recording_url": 5}, []])
def test_no_recording(sent: object) -> None:
    assert decoded(recording=sent).recording_url is None


@pytest.mark.parametrize("sent", [None, {}, {"from": None}])
def test_web_calls_have_no_numbers(sent: object) -> None:
    voip = decoded(voip=sent).voip
    assert voip is None or (voip.from_, voip.to) == (None, None)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("voicemail-hangup", CallStatus("voicemail-hangup", "voicemail-hangup")),
        ("no-answer", CallStatus("no-answer", "no-answer")),
        ("invented", CallStatus("other", "invented")),
        ("", CallStatus("other", "")),
        (5, CallStatus(None, None)),
    ],
)
def test_statuses(sent: object, status: CallStatus) -> None:
    assert decoded(call_status=sent).status == status


@pytest.mark.parametrize(
    ("sent", "id_"), [("-OmN", "-OmN"), (" s1 ", "s1"), (7, "7"), (10**20, str(10**20)), ("", None), (None, None)]
)
def test_identifiers(sent: str | int | None, id_: str | None) -> None:
    assert identifier(decoded(session_id=sent).session_id) == id_


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'"{}"', b"5", b"{", b"{}{}", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_said_to_be(raw: bytes) -> None:
    with pytest.raises(UNREADABLE):
        decode_end_of_call(raw)
    with pytest.raises(UNREADABLE):
        members_of(raw)


def test_members_stay_verbatim() -> None:
    members = members_of(b'{"a": 1.10, "b" : [ 1 ], "a": 1.20}')
    assert {name: bytes(raw) for name, raw in members.items()} == {"a": b"1.20", "b": b"[ 1 ]"}


@given(st.dictionaries(st.sampled_from(list(DOCUMENTED)), st.sampled_from(ODD)))
def test_no_combination_of_odd_members_raises(changes: dict[str, object]) -> None:
    call = decoded(**changes)
    assert call.chat_turns().state in ("ok", "none", "unreadable")
    assert call.functions().state in ("ok", "none", "unreadable")
    assert isinstance(call.metadata_map(), dict)


@pytest.mark.parametrize(
    ("raw", "mended"),
    [
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"cut \ud83d"', "cut \ufffd"),
        (rb'"\ude00 and \ud83dx"', "\ufffd and \ufffdx"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
        (rb'"\\ud83d"', r"\ud83d"),
        (rb'"\\\ud83d\u00e9"', "\\\ufffdé"),
    ],
)
def test_a_lone_surrogate_is_mended(raw: bytes, mended: str) -> None:
    assert msgspec.json.decode(mend_surrogates(raw)) == mended


@given(st.lists(st.sampled_from([r"\n", r"\\", r"\u00e9", r"\ud83d", r"\ude00", r"\ud83d\ude00", "ud83d", "x"])))
def test_what_is_mended_is_what_python_can_not_encode(parts: list[str]) -> None:
    raw = f'"{"".join(parts)}"'
    sent: str = json.loads(raw)  # Python's decoder keeps a lone surrogate
    mended = re.sub("[\ud800-\udfff]", "\ufffd", sent)
    assert msgspec.json.decode(mend_surrogates(raw.encode())) == mended


@pytest.mark.parametrize("unit", [rb"\n", rb"\\", rb"\ud83d\ude00", rb"\u0041", rb"\u", b"a"])
def test_a_body_of_harmless_escapes_is_looked_through_in_moments(unit: bytes) -> None:
    raw = unit * (8_000_000 // len(unit))
    started = time.process_time()
    assert mend_surrogates(raw) == raw
    assert time.process_time() - started < 1.5  # a fifth of a second; with a call for each, six


def plain(call: EndOfCall) -> dict[str, Any]:
    """Raw members compare by identity; their bytes compare."""
    return {
        name: bytes(value) if isinstance(value, msgspec.Raw) else value
        for name, value in msgspec.structs.asdict(call).items()
    }
