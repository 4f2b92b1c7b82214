"""Whether the service may be sent calls, and why."""

import time

from runtime.ops import Health
from service.journal import Journal
from state.reader import ProfileReader

# The state store delays the first start only, and no longer than this: then we fail open with empty answers.
STATE_GRACE_S = 10.0


class ServiceHealth:
    """Ready = can make an event durable. Callers that we don't know yet are no reason to refuse their calls."""

    def __init__(self, journal: Journal, reader: ProfileReader) -> None:
        self._journal = journal
        self._reader = reader
        self._started = time.monotonic()
        self._state_was_there = False

    def __call__(self) -> Health:
        self._state_was_there = (
            self._state_was_there or self._reader.available or time.monotonic() - self._started > STATE_GRACE_S
        )
        reasons = {
            "kafka": "connected" if self._journal.connected else self._journal.why_not,
            "state": "available" if self._reader.available else "not there yet: callers are answered as unknown",
        }
        return Health(self._journal.connected and self._state_was_there, reasons)
