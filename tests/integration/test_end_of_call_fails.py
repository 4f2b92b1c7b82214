"""An end of call at which ringlog itself fails: it is counted, its body is kept, and the provider's side knows."""

import base64
from typing import Any

import msgspec
import pytest

from runtime.settings import Settings
from schemas.caller import CallerIdentity
from schemas.rejected import Rejected
from schemas.topics import CALLS_ENDED, CALLS_REJECTED
from service.end_of_call import MAX_INLINE_BYTES
from service.journal import NotDurable
from service.quarantine import Quarantine
from tests.edge import Edge, call, metric, records_of


def failures() -> float | None:
    return metric("ringlog_requests_total", webhook="end-of-call", status="500")


@pytest.fixture(autouse=True)
def broken_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours that no body explains."""

    def identify(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(CallerIdentity, "identify", identify)


@pytest.mark.parametrize("filler", [0, MAX_INLINE_BYTES], ids=["inline", "in a thread"])
async def test_its_body_is_kept_and_it_is_counted(edge: Edge, settings: Settings, filler: int) -> None:
    before = failures()
    assert before is not None  # counted from zero, so that the first one is an increase
    rejected = metric("ringlog_rejected_total", webhook="end-of-call", reason="failed") or 0
    body = call(voip=None, filler=" " * filler)
    response = await edge.end(body)
    assert response.status == 500
    assert await response.json() == {"error": "Something went wrong here; the log has it.", "reason": "failed"}
    assert failures() == before + 1
    assert metric("ringlog_rejected_total", webhook="end-of-call", reason="failed") == rejected + 1

    (record,) = await records_of(settings, CALLS_REJECTED)
    kept = msgspec.json.decode(record.value or b"", type=Rejected)
    assert (kept.webhook, kept.reason, kept.whole) == ("end-of-call", "failed", True)
    assert "ZeroDivisionError" in kept.detail
    assert base64.b64decode(kept.head) == body
    assert await records_of(settings, CALLS_ENDED) == []


@pytest.mark.parametrize("error", [NotDurable("full"), ZeroDivisionError()], ids=["not durable", "broken, too"])
async def test_it_is_answered_and_counted_when_its_body_can_not_be_kept(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def keep(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Quarantine, "keep", keep)
    before = failures()
    assert before is not None
    assert (await edge.end(call())).status == 500
    assert failures() == before + 1
