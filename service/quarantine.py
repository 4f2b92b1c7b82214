"""What could not be read goes to `calls.rejected`, with the reason: nothing is dropped silently."""

import msgspec

from runtime.clock import Clock
from runtime.logs import logger
from runtime.metrics import REJECTED
from schemas.event import REJECTED as REJECTED_TYPE
from schemas.event import event_id, headers_of
from schemas.rejected import HEAD_BYTES, Rejected, encode_head, sha256
from schemas.topics import CALLS_REJECTED
from service.journal import Entry, Journal


class Quarantine:
    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._log = logger("service.quarantine")

    async def keep(
        self, webhook: str, reason: str, detail: str, received: bytes, *, size: int = -1, digest: str = ""
    ) -> None:
        """`size` and `digest` are of the whole, where `received` is only its head. Raises `NotDurable`."""
        await self._journal.publish(self._entry(webhook, reason, detail, received, size=size, digest=digest))

    def keep_soon(self, webhook: str, reason: str, detail: str, received: bytes) -> None:
        """Without waiting, for a webhook that must be answered in time whatever happens."""
        self._journal.publish_soon(self._entry(webhook, reason, detail, received))

    def _entry(
        self, webhook: str, reason: str, detail: str, received: bytes, *, size: int = -1, digest: str = ""
    ) -> Entry:
        digest = digest or sha256(received)
        now = self._clock()
        id_ = event_id("rejected", webhook, digest.encode())
        whole = size < 0 or size == len(received)
        value = Rejected(
            event_id=id_,
            received_at=now,
            webhook=webhook,
            reason=reason,
            detail=detail,
            bytes=len(received) if size < 0 else size,
            sha256=digest,
            whole=whole,
            head=encode_head(received if whole else received[:HEAD_BYTES]),
        )
        REJECTED.labels(webhook, reason).inc()
        self._log.warning("a webhook was rejected", webhook=webhook, reason=reason, event_id=id_, bytes=value.bytes)
        headers = headers_of(REJECTED_TYPE, id_, now)
        return Entry(CALLS_REJECTED, id_.encode(), None, msgspec.json.encode(value), headers)
