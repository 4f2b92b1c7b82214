"""Whether the service may be sent calls, and why."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from runtime.ops import Health
from service.journal import Journal
from state.reader import ProfileReader

# The state store delays the first start only, and no longer than this: then we fail open with empty answers.
STATE_GRACE_S = 10.0


class ServiceHealth:
    """Ready = can make an event durable, in Kafka or in the spool. That we don't know a caller yet is no reason to
    refuse the call. `beside` tells of what runs beside the service, and gates nothing either."""

    def __init__(self, journal: Journal, reader: ProfileReader, beside: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._journal = journal
        self._reader = reader
        self._beside = beside
        self._started = time.monotonic()
        self._state_was_there = False

    def __call__(self) -> Health:
        self._state_was_there = (
            self._state_was_there or self._reader.available or time.monotonic() - self._started > STATE_GRACE_S
        )
        reasons = {
            **self._journal.reasons(),
            "state": self._state(),
            "state_generation": self._reader.generation,
            **self._beside(),
        }
        return Health(self._journal.accepts and self._state_was_there, reasons)

    def _state(self) -> str:
        if not self._reader.available:
            return "not there yet: callers are answered as unknown"
        if self._reader.error is not None:
            return f"available, but old: {self._reader.error}"
        return "available, but old: by the rules of another version" if self._reader.is_old else "available"
