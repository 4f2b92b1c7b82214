"""How fast a server sends: one that trickles must not hold a worker for the hour that a download may take."""

import contextlib
import time
from collections.abc import Callable, Iterator

from consumers.recordings.failure import FetchFailed

# As long as a server may be silent: whoever prepares a file for so long is slow for no other reason.
GRACE_S = 60.0

# A pause that is not yet a silence must not be taken for a trickle.
WINDOW_S = 60.0


class Pace:
    """Bytes over the time that *we waited* for them: while our own storage is slow, no server is to blame.

    `floor` is in bytes a second, over windows of `WINDOW_S`; 0 means none. The first `GRACE_S` are not judged.
    """

    def __init__(self, floor: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._floor = floor
        self._clock = clock
        self._bytes = 0
        self._waited_s = 0.0
        self._judged = False  # the first window is the grace

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        began = self._clock()
        try:
            yield
        finally:
            self._waited_s += self._clock() - began

    def received(self, count: int) -> None:
        """Raises `FetchFailed` at the end of a window that was too slow."""
        self._bytes += count
        if self._waited_s < (WINDOW_S if self._judged else GRACE_S):
            return
        rate = self._bytes / self._waited_s
        if self._judged and rate < self._floor:
            raise FetchFailed(
                f"too slow: {rate:.0f} bytes a second, and RINGLOG_RECORDING_MIN_BYTES_PER_S is {self._floor}"
            )
        self._bytes, self._waited_s, self._judged = 0, 0.0, True
