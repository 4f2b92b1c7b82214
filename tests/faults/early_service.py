"""`ringlog serve` with its safeguard off: an event counts as durable before anything has been done for it.

A process of its own; the oracle must find out what it loses.
"""

import asyncio
import sys

from cli.main import main
from service.journal import Entry, Journal, NotDurable

_publish = Journal.publish
_under_way: set["asyncio.Task[None]"] = set()  # the loop itself holds tasks weakly


async def _too_early(self: Journal, entry: Entry) -> None:
    task = asyncio.create_task(_publish(self, entry))
    _under_way.add(task)
    task.add_done_callback(_forget)


def _forget(task: "asyncio.Task[None]") -> None:
    _under_way.discard(task)
    if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), NotDurable):
        sys.exit(f"the journal failed otherwise than expected: {task.exception()!r}")


if __name__ == "__main__":
    Journal.publish = _too_early  # type: ignore[method-assign]
    sys.argv[1:] = ["serve"]
    main()
