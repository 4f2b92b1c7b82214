"""Starting a broker's process so that it never outlives us, and ending it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import IO

# prctl(2): the signal that the kernel sends to a child when the thread that made it ends.
_PR_SET_PDEATHSIG = 1
# After SIGKILL only the kernel's own work is left. A process stuck in a device beyond that can't be helped.
KILL_DEADLINE_S = 10.0


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


def spawn(
    command: Sequence[str], *, log: IO[bytes], directory: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Starts a process that dies with ours, whichever thread calls: one of its own stays as long as it runs.

    It is in a session of its own, so that Ctrl-C in a terminal reaches us alone and we stop things in order.

    Raises:
        OSError: it could not be started.
    """
    started: Future[subprocess.Popen[bytes]] = Future()

    def stay() -> None:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=environment,
                start_new_session=True,
                preexec_fn=dies_with_us(),  # noqa: PLW1509 - it only calls what was loaded before the fork
            )
        except BaseException as failed:
            started.set_exception(failed)
            return
        started.set_result(process)
        # WNOWAIT leaves the exit status to whoever owns the Popen; who has taken it already ends our wait too.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    threading.Thread(target=stay, name="parent-of-kafka", daemon=True).start()
    return started.result()


def end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM, then SIGKILL when it has not ended within ``grace_s``; with no grace SIGKILL at once."""
    if process.poll() is not None:
        return
    if grace_s > 0:
        # A process that is stopped would take the SIGTERM only when somebody wakes it.
        process.send_signal(signal.SIGCONT)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
            return
    process.kill()
    process.wait(KILL_DEADLINE_S)
