"""`ringlog state rebuild`, run again and again, and stopped in between."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from runtime.local_kafka import dies_with_us
from state.generations import Generations


class Rebuilding:
    """Rebuilds, one after the other, while it `goes`."""

    def __init__(self, environment: Mapping[str, str], state_dir: Path) -> None:
        self._environment = environment
        self._generations = Generations(state_dir)
        self._process = begin(environment)

    @property
    def pid(self) -> int:
        return self._process.pid

    def go(self, on: bool) -> None:
        """Returns when it reads, if it goes."""
        if on and self._process.poll() is not None:
            self._process = begin(self._environment)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT if on else signal.SIGSTOP)
        while on and self._generations.unfinished() is None and self._process.poll() is None:
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def begin(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "state", "rebuild", "--json"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # as from another terminal, or in another container: a share of its own
        preexec_fn=dies_with_us(),  # noqa: PLW1509 - it neither imports nor locks in the child
    )
