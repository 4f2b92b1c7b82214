"""Any record as a line and as JSON: nothing that may lie in a topic breaks them, and a line tells no number."""

import json
from typing import Any

import pytest

from cli.record_filter import RecordFilter
from cli.record_text import body_text, record_json, record_line
from runtime.settings import SettingsError, load_settings
from schemas.caller import Caller
from schemas.event import CALLER_FACT, Record, headers_of
from tests.ended_calls import ended, prefetched

NUMBER = "+15551234567"
ANN = Caller("a" * 32, "phone", NUMBER)
VOIP = {"voip": {"from": NUMBER, "to": "+15557654321"}}


def odd(value: bytes | None, key: bytes | None = None, **headers: str) -> Record:
    named = [(name, text.encode()) for name, text in headers.items()]
    return Record(topic="t", partition=1, offset=2, appended_ms=0, key=key, value=value, headers=named)


def test_a_line_says_what_happened_and_to_whom() -> None:
    call = ended("-s", 1, {"call_status": "user-ended", "duration": 61.5, **VOIP}, caller=ANN)
    assert record_line(call).plain == (
        "2026-09-21 14:13:20  calls.ended/0/0  call.ended  session -s  agent -agent  caller aaaaaaaaaaaa"
        "  user-ended, 61.5 s"
    )
    assert "call.prefetched  session s  agent -agent" in record_line(prefetched("s", 1)).plain


def test_a_line_tells_no_phone_number_and_a_body_does() -> None:
    call = ended("s", 1, VOIP, caller=ANN)
    assert "555" not in record_line(call).plain
    assert "555" not in record_line(odd(b"{}", key=NUMBER.encode())).plain
    assert NUMBER in body_text(call) and NUMBER in record_json(call).decode()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\xff\xfe", "unreadable, 2 bytes"),
        (b"{", "unreadable, 1 bytes"),
        (b"", "unreadable, 0 bytes"),
        (b"[" * 100_000, "unreadable, 100000 bytes"),
        (b"12", "no event"),
        (b'{"session_id": 5, "caller": "x", "body": [], "answered": 7}', "no event"),
    ],
)
def test_what_is_no_event_is_shown_as_such(value: bytes, why: str) -> None:
    for kind in ("ringlog.call.ended", "ringlog.call.prefetched", "ringlog.billing.charged", "else"):
        assert (why if why != "no event" else kind.removeprefix("ringlog.")) in record_line(
            odd(value, ce_type=kind)
        ).plain
    assert why in record_line(odd(value)).plain
    told = json.loads(record_json(odd(value)))
    assert ("unreadable" in told) == why.startswith("unreadable")
    body_text(odd(value))


def test_what_drives_a_terminal_is_not_printed() -> None:
    line = record_line(ended("\x1b[2J\r", 1, {"call_status": "\x1b]0;x\x07"})).plain
    assert "\x1b" not in line and "\r" not in line and "\x07" not in line
    assert "\n" not in record_line(odd(b'{"session_id": "a\\nb"}')).plain


def test_json_has_the_value_to_the_digit_on_one_line() -> None:
    record = odd(b'{\n "credit": 4.30e-3,\n "large": 123456789012345678901234567890\n}', key=b"\xff", ce_id="i")
    line = record_json(record)
    assert b'"value":{"credit":4.30e-3,"large":123456789012345678901234567890}' in line and b"\n" not in line
    told = json.loads(line)
    assert (told["key"], told["headers"], told["appended_at"]) == (
        {"base64": "/w=="},
        [["ce_id", "i"]],
        "1970-01-01T00:00:00.000000Z",
    )
    assert json.loads(record_json(odd(b"\xff")))["base64"] == "/w=="
    assert json.loads(record_json(odd(b"{")))["text"] == "{"


def test_a_deletion_names_the_fact() -> None:
    gone = Record(
        topic="callers.facts",
        partition=0,
        offset=0,
        appended_ms=0,
        key=f"{ANN.id}/tier".encode(),
        value=None,
        headers=headers_of(CALLER_FACT, "i", 0),
    )
    assert record_line(gone).plain.endswith("caller.fact  caller aaaaaaaaaaaa  tier deleted")
    assert json.loads(record_json(gone))["value"] is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RecordFilter(), True),
        (RecordFilter(session="s"), True),
        (RecordFilter(session="other"), False),
        (RecordFilter(agent="-agent"), True),
        (RecordFilter(agent="agent"), False),
        (RecordFilter(caller=ANN.id), True),
        (RecordFilter(caller="b" * 32), False),
        (RecordFilter(session="s", agent="other"), False),
    ],
)
def test_records_are_chosen_by_session_agent_and_caller(wanted: RecordFilter, found: bool) -> None:
    assert wanted.matches(ended("s", 1, {}, caller=ANN)) is found


def test_a_caller_is_named_by_number_or_id() -> None:
    settings: Any = load_settings(identity_key="k" * 32)
    id_ = settings.identity().id_of_number(NUMBER)
    assert RecordFilter.of(settings, None, " +1 555 123 4567 ", None).caller == id_
    assert RecordFilter.of(settings, None, id_, None).caller == id_
    assert RecordFilter(caller=id_).matches(odd(None, key=f"{id_}/tier".encode()))
    with pytest.raises(SettingsError, match="--caller is wrong"):
        RecordFilter.of(settings, None, "somebody", None)
