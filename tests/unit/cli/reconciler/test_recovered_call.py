"""What the API tells of a call becomes the body that its webhook would have brought."""

import msgspec
import pytest

from cli.reconciler.recovered_call import UNFINISHED, RecoveredCall, Unreadable, recovered_call
from schemas.status import FROM_THE_API


def test_everything_is_kept_byte_for_byte() -> None:
    call = recovered_call(b'{"session_id":"s","cost_breakdown":[{"credit":0.10}],"call_status":"timeout"}')
    assert (call.session_id, call.has_ended) == ("s", True)
    assert call.body == b'{"session_id":"s","cost_breakdown":[{"credit":0.10}],"call_status":"timeout"}'


def test_the_status_goes_by_two_names() -> None:
    call = recovered_call(b'{"session_id":"s","status":"user-ended","call_status":null}')
    assert msgspec.json.decode(call.body) == {"session_id": "s", "status": "user-ended", "call_status": "user-ended"}
    call = recovered_call(b'{"session_id":"s","status":"queued","call_status":"error"}')
    assert call.has_ended and msgspec.json.decode(call.body)["call_status"] == "error"


def told(**members: object) -> RecoveredCall:
    return recovered_call(msgspec.json.encode({"session_id": "s", **members}))


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_a_call_under_way_has_not_ended(status: str) -> None:
    for spelt in (status, status.upper(), status.replace("-", "_"), f" {status} "):
        assert not told(status=spelt, duration=5).has_ended
        assert not told(call_status=" ", status=spelt, duration=5).has_ended
    assert status in {known.replace("_", "-") for known in FROM_THE_API}


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled", "user-ended", "new"])
def test_every_other_status_is_one_of_an_end(status: str) -> None:
    assert told(status=status).has_ended and told(call_status=status).has_ended


@pytest.mark.parametrize("status", [None, "", " ", "unknown", 5])
def test_without_a_status_only_what_an_end_brings_tells_of_one(status: object) -> None:
    assert not told(status=status).has_ended and not told(call_status=status, duration=None).has_ended
    assert told(status=status, duration=0).has_ended and told(call_status=status, cost_breakdown=[]).has_ended


@pytest.mark.parametrize(
    ("breakdown", "is_priced"),
    [(None, False), ([{"credit": None}], False), ([], True), ([{"credit": 1}], True), ([{"credit": "dear"}], True)],
)
def test_a_call_is_priced_when_its_cost_is_told(breakdown: object, is_priced: bool) -> None:
    assert told(cost_breakdown=breakdown).is_priced is is_priced


def test_half_an_emoji_is_mended_as_in_a_webhook() -> None:
    call = recovered_call(rb'{"session_id":"s","duration":1,"chat":"cut \ud83d"}')
    assert msgspec.json.decode(call.body)["chat"] == "cut \ufffd"


def test_who_asked_for_a_session_knows_which_it_is() -> None:
    call = recovered_call(b'{"duration":5}', "asked")
    assert call.session_id == "asked" and msgspec.json.decode(call.body)["session_id"] == "asked"
    assert recovered_call(b'{"session_id":7}', "asked").session_id == "7"


@pytest.mark.parametrize("told", [b"", b"[]", b"null", b"{", b'{"duration":5}', b"\xff", b'{"a":' + b"[" * 100_000])
def test_what_is_no_call_is_unreadable(told: bytes) -> None:
    with pytest.raises(Unreadable):
        recovered_call(told)
