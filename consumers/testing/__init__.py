"""A test kit for consumers of one's own: given events, expect effects; and the same, whatever happens in between.

    from consumers.testing import Trial, ended, killed_everywhere

    def test_a_call_is_counted():
        with Trial(ended("session-1"), ended("session-2")) as trial:
            trial.run(CallsPerMinute)
            assert trial.rows(calls_per_minute) == [...]

It needs no broker and no service: `docs/own-consumers.md` shows all of it.
"""

from consumers.testing.events import (
    AGENT,
    AGENT_NUMBER,
    BEGINNING,
    CALLER,
    ended,
    odd_calls,
    prefetched,
    revised,
    unreadable,
)
from consumers.testing.orders import any_order, killed_everywhere
from consumers.testing.steps import Killed
from consumers.testing.trial import DeadLetter, Derived, Trial

__all__ = [
    "AGENT",
    "AGENT_NUMBER",
    "BEGINNING",
    "CALLER",
    "DeadLetter",
    "Derived",
    "Killed",
    "Trial",
    "any_order",
    "ended",
    "killed_everywhere",
    "odd_calls",
    "prefetched",
    "revised",
    "unreadable",
]
