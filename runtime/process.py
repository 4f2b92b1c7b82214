"""How a process runs: one loop, its signals, its exit code."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable

import uvloop

EXIT_SETTINGS = 2  # the settings are wrong: one sentence says which, and to start it again would not mend them
EXIT_STUCK = 3  # to go on would make something wrong: a person has to decide, the other processes need not wait

# Objects that are made and not yet gone before the collector looks for cycles. Python's 700 are those of a few dozen
# requests under way, which are no garbage.
GC_THRESHOLD = 10_000

Main = Callable[[asyncio.Event], Awaitable[int | None]]


def run(main: Main) -> int:
    """Runs `main(stop)` until it returns. SIGTERM and SIGINT set `stop`; they never interrupt what is being done."""

    async def with_signals() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        return await main(stop) or 0

    gc.collect()
    gc.freeze()  # modules, classes and whatever else was made before the loop stay: never look at them again
    gc.set_threshold(GC_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(with_signals())
