"""A consumer as a process of its own, to be killed, stopped, woken and asked."""

import contextlib
import ctypes
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec

import tests
from runtime.local_kafka import dies_with_us
from runtime.settings import PREFIX, Settings
from tests.faults.saboteur import Sabotage

# From SIGTERM to the end: what the process grants itself, and two seconds for a busy machine.
STOP_WITHIN_S = 18.0

_REPOSITORY = Path(tests.__path__[0]).parent
_PR_SET_PDEATHSIG = 1

# Loading what a consumer needs takes two seconds of a core. Two hundred starts are forked from one that has loaded it.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.faults.saboteur", "consumers.process"])

# An exit code can be read once. Whoever starts a process also asks all others whether they have ended, and who asks for
# the code meanwhile, in another thread, would be told 255.
_codes = threading.Lock()


class ConsumerProcess:
    """`ringlog consume NAME`, running from the start on.

    With `anew`, which an `LD_PRELOAD` needs, by `python -m`; otherwise forked. `environment` goes before the settings.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        log: Path,
        *,
        sabotage: Sabotage | None = None,
        environment: Mapping[str, str] | None = None,
        anew: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self._ops_port = free_port()
        variables = {**_variables(settings, self._ops_port), **(environment or {})}
        self._child: subprocess.Popen[bytes] | BaseProcess
        if anew:
            self._child = _started(variables, name, log, sabotage)
        else:
            spec = msgspec.json.encode(sabotage or Sabotage()).decode()
            self._child = _forks.Process(target=_forked, args=(variables, spec, name, str(log)), daemon=True)
            with _codes:
                self._child.start()

    @property
    def pid(self) -> int:
        assert self._child.pid is not None
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when it was killed by one."""
        with _codes:
            return self._child.poll() if isinstance(self._child, subprocess.Popen) else self._child.exitcode

    def send(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait(STOP_WITHIN_S)

    def stop(self) -> int:
        """By SIGTERM. Returns the exit code."""
        self.send(signal.SIGTERM)
        return self.wait(STOP_WITHIN_S)

    def wait(self, within_s: float) -> int:
        """Until it has ended; the exit code. Blocks. Raises `AssertionError`."""
        if isinstance(self._child, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(within_s)
        else:
            multiprocessing.connection.wait([self._child.sentinel], within_s)
        code = self.exit_code
        assert code is not None, f"{self.name} has not ended within {within_s:g} s; {self.last_words()}"
        return code

    def state(self) -> str:
        """Its letter in /proc, `T` while it is stopped."""
        assert self.exit_code is None, f"{self.name} ended with {self.exit_code}; {self.last_words()}"
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def health(self) -> dict[str, Any]:
        """What it answers to `/health/ready`; empty when it doesn't answer."""
        url = f"http://127.0.0.1:{self._ops_port}/health/ready"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                found: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            found = json.loads(error.read())
        except OSError:
            found = {}
        return found

    def consumed(self) -> int:
        """How many events it has committed the effects of."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ops_port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return round(sum(float(line.split()[-1]) for line in lines if line.startswith("ringlog_consumed_total{")))

    def begun(self, within_s: float) -> None:
        """When it answers: its signals are its own by then. Blocks. Raises `AssertionError`."""
        deadline = time.monotonic() + within_s
        while not self.health():
            assert self.exit_code is None, f"{self.name} ended with {self.exit_code}; {self.last_words()}"
            assert time.monotonic() < deadline, f"{self.name} has not begun within {within_s:g} s; {self.last_words()}"
            time.sleep(0.05)

    def last_words(self) -> str:
        return f"its log ends so:\n{self.log.read_text(errors='replace')[-3000:]}"


@contextlib.contextmanager
def consuming(*started: ConsumerProcess) -> Iterator[None]:
    """They run while the block does, none ending by itself, and stop in order afterwards. Killed when a test fails."""
    try:
        yield
        for process in started:
            process.begun(STOP_WITHIN_S)
        for process in started:
            process.send(signal.SIGTERM)
        codes = {process.name: process.wait(STOP_WITHIN_S) for process in started}
        assert set(codes.values()) == {0}, f"exit codes {codes}; {started[0].last_words()}"
    finally:
        kill_all(started)


def kill_all(started: Iterable[ConsumerProcess]) -> None:
    for process in started:
        process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _variables(settings: Settings, ops_port: int) -> dict[str, str]:
    own = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "DATABASE_URL": settings.database,
        "DATA_DIR": str(settings.data_dir),
        "RECORDINGS_URL": settings.recordings,
        "RECORDING_PRIVATE_HOSTS": ",".join(settings.recording_private_hosts),
        "HOST": "127.0.0.1",
        "OPS_PORT": str(ops_port),
        "LOG_FORMAT": "json",
    }
    of_s3 = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return {PREFIX + name: value for name, value in own.items()} | of_s3


def _started(variables: Mapping[str, str], name: str, log: Path, sabotage: Sabotage | None) -> subprocess.Popen[bytes]:
    spec = [] if sabotage is None else [msgspec.json.encode(sabotage).decode()]
    module = "cli.main" if sabotage is None else "tests.faults.saboteur"
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *spec, "consume", name],
            cwd=_REPOSITORY,
            env={**os.environ, **variables},
            stdout=output,
            stderr=output,
            preexec_fn=dies_with_us(),  # noqa: PLW1509 - it only calls what was loaded before the fork
        )


def _forked(variables: Mapping[str, str], spec: str, name: str, log: str) -> None:
    from tests.faults.saboteur import main

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.environ.update(variables)
    sys.argv[:] = ["ringlog", spec, "consume", name]
    main()
