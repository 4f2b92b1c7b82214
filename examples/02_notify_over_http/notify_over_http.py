"""Tells a Slack-like webhook of each ended call: again while it is away, with a key by which it knows a repetition."""

import os
from collections.abc import Sequence

import aiohttp

from consumers.calls import EndedCall, ended_call
from consumers.contract import Later, Record
from schemas.topics import CALLS_ENDED

TIMEOUT = aiohttp.ClientTimeout(total=3)


class NotifyOverHttp:
    name = "notify-over-http"
    topics = (CALLS_ENDED,)
    max_records = 20  # a batch that breaks off is told again from its beginning, so it should be short

    def __init__(self, url: str | None = None) -> None:
        self._url = url or os.environ["NOTIFY_URL"]

    async def deliver(self, records: Sequence[Record]) -> None:
        calls = [ended_call(record) for record in records]  # before the first is told: what can't be read raises here
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            for call in calls:
                await self._tell(session, call)

    async def _tell(self, session: aiohttp.ClientSession, call: EndedCall) -> None:
        """Raises `Later` for what passes, and for what doesn't an error that makes the event a dead letter."""
        key = {"Idempotency-Key": call.event_id}  # the same when the provider, or ringlog, says it again
        try:
            async with session.post(self._url, json={"text": _sentence(call)}, headers=key) as answer:
                if answer.status == 429 or answer.status >= 500:
                    raise Later(f"it answers {answer.status}", after_s=_seconds(answer.headers.get("Retry-After")))
                answer.raise_for_status()
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise Later(f"it can't be reached: {type(error).__name__}") from error


def _sentence(call: EndedCall) -> str:
    seconds = "an unknown time" if call.body.duration is None else f"{call.body.duration:.0f} s"
    return f"Call {call.session_id} ended after {seconds}: {call.body.status.value or 'no status'}."


def _seconds(retry_after: str | None) -> float | None:
    """It may be a date, too; then the usual pauses must do."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
