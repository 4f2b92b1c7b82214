"""A rebuild in a process of its own: beside a running builder, who takes over what was built, or without one."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from aiokafka.errors import KafkaError

from consumers.backoff import Backoff
from consumers.rebuild import Rebuild
from runtime.kafka import KafkaUnavailable
from runtime.logs import logger
from runtime.threads import in_thread
from state.generations import Generations
from state.lock import Lock, StoreBusy

# A builder looks every second, makes a new client, and reads what has come since.
TAKEN_OVER_WITHIN_S = 60.0
LOOK_EVERY_S = 0.2

log = logger("consumers.handover")


class NotTakenOver(ConnectionError):
    """The running builder has not begun to serve the new generation; one sentence."""


async def rebuild_aside(
    rebuild: Rebuild, generations: Generations, stop: asyncio.Event, waiting: Callable[[], None]
) -> Path | None:
    """Builds a new generation and sees to it that it is served; None when it was stopped first, and can be resumed.

    It is the builder who swaps: it is past all that it had folded into the old one before, so nobody who reads sees a
    profile go back. Without a builder it is done here. `waiting` is told when there is one to wait for.

    Raises what `Rebuild.run` raises, `StoreBusy` also when there is another rebuild; `KafkaUnavailable` when Kafka
    can't be reached at the start; `NotTakenOver`.
    """
    while True:
        with generations.rebuilding():
            path = await _built(rebuild, stop)
            if path is None:
                return None
            builder = _builder_lock(generations)
            if builder is not None:
                with builder:
                    await in_thread(generations.swap, path)
                    await in_thread(generations.prune)
                return path
            await in_thread(generations.offer, path)
        waiting()
        if await _is_taken_over(path, generations, stop):
            return path
        if stop.is_set():
            return None


async def _built(rebuild: Rebuild, stop: asyncio.Event) -> Path | None:
    """Once it reads, a Kafka that is away is waited for."""
    backoff = Backoff()
    while True:
        try:
            return await rebuild.run(stop)
        except (KafkaError, ConnectionError, TimeoutError) as error:
            if rebuild.path is None:
                raise KafkaUnavailable(f"The topics can't be read: {str(error) or type(error).__name__}") from error
            log.warning("the connection to Kafka is made anew", error=type(error).__name__, reason=str(error))
            await backoff.wait(stop)


async def _is_taken_over(path: Path, generations: Generations, stop: asyncio.Event) -> bool:
    """False when it was stopped, or the builder has left. Raises `NotTakenOver`."""
    until = time.monotonic() + TAKEN_OVER_WITHIN_S
    while not stop.is_set():
        if await in_thread(generations.serving) == path:
            return True
        if (lock := _builder_lock(generations)) is not None:
            lock.release()
            return False
        if time.monotonic() > until:
            raise NotTakenOver(
                f"{path.name} has caught up, and the running builder has not taken it over within"
                f" {TAKEN_OVER_WITHIN_S:g} s; it does when it can. Does it reach Kafka, and is it of this version?"
            )
        with contextlib.suppress(TimeoutError):  # the usual end of a wait
            await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)
    return False


def _builder_lock(generations: Generations) -> Lock | None:
    """None while there is a builder."""
    try:
        return generations.building()
    except StoreBusy:
        return None
