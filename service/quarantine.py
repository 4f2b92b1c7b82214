"""What could not be read goes to `calls.rejected`, with the reason: nothing is dropped silently."""

import asyncio

import msgspec

from runtime.clock import Clock
from runtime.logs import logger
from runtime.metrics import REJECTED
from schemas.event import REJECTED as REJECTED_TYPE
from schemas.event import event_id, headers_of
from schemas.rejected import HEAD_BYTES, Rejected, encode_head, sha256
from schemas.topics import CALLS_REJECTED, MAX_MESSAGE_BYTES
from service.body import BodyTooLarge
from service.journal import Entry, Journal

# What a record holds beside the head fits easily into the rest. Base64 makes a body a third larger, so one near the
# limit of the webhook doesn't fit into its topic, and is kept like one beyond it: its head, size and hash.
MAX_ENCODED_BYTES = MAX_MESSAGE_BYTES - 256 * 1024

# Why, in a word for counting, by webhook.
REASONS = {
    "prefetch": ("failed", "no-session", "session-too-long", "too-large"),
    "end-of-call": (
        *("failed", "incomplete", "no-session", "not-an-object", "not-json"),
        *("not-utf8", "session-too-long", "too-deep", "too-large"),
    ),
}


class Quarantine:
    def __init__(self, journal: Journal, clock: Clock) -> None:
        for webhook, reasons in REASONS.items():
            for reason in reasons:
                REJECTED.labels(webhook, reason)  # there from the start, so that the first one is an increase
        self._journal = journal
        self._clock = clock
        self._log = logger("service.quarantine")

    async def keep(self, webhook: str, reason: str, detail: str, received: bytes) -> None:
        """Raises `NotDurable`."""
        # Megabytes are searched for credentials in seconds, and a prefetch can't wait for that.
        large = len(received) > HEAD_BYTES
        head = await asyncio.to_thread(encode_head, received) if large else encode_head(received)
        whole = len(head) <= MAX_ENCODED_BYTES
        if not whole:
            head = encode_head(received[:HEAD_BYTES])
        await self._journal.publish(self._entry(webhook, reason, detail, head, len(received), sha256(received), whole))

    async def keep_head(self, webhook: str, reason: str, detail: str, body: BodyTooLarge) -> None:
        """Raises `NotDurable`."""
        head = encode_head(body.head)
        await self._journal.publish(self._entry(webhook, reason, detail, head, body.size, body.sha256, False))

    def keep_soon(self, webhook: str, reason: str, detail: str, received: bytes) -> None:
        """Without waiting, and no more than the head, for a webhook that must be answered in time whatever happens."""
        head, whole = encode_head(received[:HEAD_BYTES]), len(received) <= HEAD_BYTES
        self._journal.publish_soon(self._entry(webhook, reason, detail, head, len(received), sha256(received), whole))

    def _entry(self, webhook: str, reason: str, detail: str, head: str, size: int, digest: str, whole: bool) -> Entry:
        now = self._clock()
        id_ = event_id("rejected", webhook, digest.encode())
        value = Rejected(
            event_id=id_,
            received_at=now,
            webhook=webhook,
            reason=reason,
            detail=detail,
            bytes=size,
            sha256=digest,
            whole=whole,
            head=head,
        )
        REJECTED.labels(webhook, reason).inc()
        self._log.warning("a webhook was rejected", webhook=webhook, reason=reason, event_id=id_, bytes=size)
        headers = headers_of(REJECTED_TYPE, id_, now)
        return Entry(CALLS_REJECTED, id_.encode(), None, msgspec.json.encode(value), headers)
