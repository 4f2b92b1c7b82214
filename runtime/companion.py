"""A program that runs beside a process, as its child, and is never the end of it."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence

from runtime.child import end, how_it_ended, spawn
from runtime.logs import logger
from runtime.metrics import COMPANION_ENDS
from runtime.supervisor import FIRST_RESTART_S, SETTLED_S

# To start one takes a second of a core, which somebody else may need; what it lacks may be mended at any time.
LONGEST_PAUSE_S = 30.0


class Companion:
    """Started again whenever it ends, whatever its exit code says: nobody else would. It speaks where we speak, and
    does not outlive us.

    `state` is for people: whether it runs, else what became of it.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.state = "not started yet"
        self._command = command
        self._environment = environment
        self._ends = COMPANION_ENDS.labels(name)  # is there from now on, at zero
        self._log = logger("runtime.companion")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then it ends, within its grace. Whatever else happens to it is logged, and raises nothing."""
        pause_s = FIRST_RESTART_S
        while not stop.is_set():
            started = time.monotonic()
            how = await self._run_once(stop)
            if stop.is_set():
                break
            self._ends.inc()
            if time.monotonic() - started > SETTLED_S:
                pause_s = FIRST_RESTART_S
            self.state = f"{how}, starting it again"
            self._log.error(f"{self.name} {self.state}", in_s=pause_s)
            with contextlib.suppress(TimeoutError):  # the usual end of a pause
                await asyncio.wait_for(stop.wait(), pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self.state = "stopped"

    async def _run_once(self, stop: asyncio.Event) -> str:
        """How it ended, or that it could not begin."""
        try:
            process = await spawn(self._command, self._environment)
        except Exception as error:  # no memory, no process left, no program: none of it may end whoever brings it
            return f"can't be started ({error})"
        self.state = "running"
        ended, stopping = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await end(process)
        return how_it_ended(await ended)
