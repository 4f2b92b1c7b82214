"""What the API tells of a call becomes the body that its webhook would have brought."""

import msgspec
import pytest

from cli.reconciler.recovered_call import UNFINISHED, Unreadable, recovered_call
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


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_a_call_under_way_has_not_ended(status: str) -> None:
    assert not recovered_call(msgspec.json.encode({"session_id": "s", "status": status})).has_ended
    assert status in FROM_THE_API


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled", "unknown", "user-ended", "new", None, 5])
def test_every_other_status_is_one_of_an_end(status: object) -> None:
    assert recovered_call(msgspec.json.encode({"session_id": "s", "status": status})).has_ended


def test_who_asked_for_a_session_knows_which_it_is() -> None:
    call = recovered_call(b'{"duration":5}', "asked")
    assert call.session_id == "asked" and msgspec.json.decode(call.body)["session_id"] == "asked"
    assert recovered_call(b'{"session_id":7}', "asked").session_id == "7"


@pytest.mark.parametrize("told", [b"", b"[]", b"null", b"{", b'{"duration":5}', b"\xff", b'{"a":' + b"[" * 100_000])
def test_what_is_no_call_is_unreadable(told: bytes) -> None:
    with pytest.raises(Unreadable):
        recovered_call(told)
