"""Looking into the database every now and then, beside a consumer that works in it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from consumers.outage import is_unavailable
from runtime.threads import in_thread

T = TypeVar("T")


async def watch(stop: asyncio.Event, every_s: float, look: Callable[[], T], tell: Callable[[T], None]) -> None:
    """Until `stop`. `look` runs in a thread, what it sees is told on the loop; a database that is away is no news."""
    while not stop.is_set():
        try:
            seen = await in_thread(look)
        except Exception as error:
            if not is_unavailable(error):  # the runner waits for the database, and says so
                raise
        else:
            tell(seen)
        with contextlib.suppress(TimeoutError):  # the usual end of a wait
            await asyncio.wait_for(stop.wait(), every_s)
