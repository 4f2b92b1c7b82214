"""Waiting for what a cluster does in its own time."""

import time
from collections.abc import Callable

PATIENCE_S = 60.0


def eventually(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Returns when it holds. What it raises meanwhile, an assertion with its reasons for example, counts as not yet."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
            reason: Exception | None = None
        except Exception as error:
            reason = error
        if time.monotonic() > deadline:
            raise AssertionError(f"it does not hold within {within_s:g} s") from reason
        time.sleep(0.5)
