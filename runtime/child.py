"""A process that we start: how it begins, that it never outlives us, and how it ends."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from runtime.scheduling import ordinary_slices

# prctl(2): the signal that the kernel sends to a child when the thread that made it ends.
_PR_SET_PDEATHSIG = 1

# Ours stop within ten seconds of SIGTERM, whatever Kafka and the database do.
STOP_GRACE_S = 15.0


async def spawn(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None = None
) -> asyncio.subprocess.Process:
    """`output` takes what it says on both streams; without one it says it where we do. Raises `OSError`.

    The loop must live as long as the process is to live.
    """
    dies, slices = dies_with_us(), ordinary_slices()

    def in_child() -> None:
        dies()
        slices()

    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        # Ctrl-C reaches the whole foreground group of a terminal: only we may have it, to stop in order.
        start_new_session=True,
        preexec_fn=in_child,
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and after its grace SIGKILL. Returns when it has ended."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):  # it ended between the question and the signal
        os.kill(process.pid, signal.SIGCONT)  # one that is paused would not hear SIGTERM
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_GRACE_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def how_it_ended(code: int) -> str:
    """By the code that `Process.wait` returns: what follows its name in a sentence."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def dies_with_us() -> Callable[[], None]:
    """A ``preexec_fn``: the child gets SIGKILL when its parent is gone, be it by kill -9.

    The kernel ties this to the *thread* that starts the child: start it from one that lives as long as the
    process is to live (the main thread, an event loop's), not from a pool. Only Linux has it; elsewhere the
    function does nothing.
    """
    if sys.platform != "linux":
        return lambda: None
    # Loaded before the fork: the child of a process with threads must not import, load or lock anything.
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            # The parent went between fork and prctl, too early for the kernel to tell us.
            os._exit(1)

    return in_child
