"""Starting a broker's process so that it never outlives us, and ending it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import IO

from runtime.child import dies_with_us

# After SIGKILL only the kernel's own work is left. A process stuck in a device beyond that can't be helped.
KILL_DEADLINE_S = 10.0


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
