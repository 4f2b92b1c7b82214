"""One `ringlog serve` with a data directory of its own, which may be killed, stopped, frozen and started again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from runtime.local_kafka.process import spawn
from tests.faults.ports import HOST, free_ports

ROOT = Path(__file__).parents[2]

SERVE = ("-m", "cli.main", "serve")

SECRET = "webhook-secret-of-the-faults"
IDENTITY_KEY = "identity-key-of-the-faults"

START_DEADLINE_S = 30.0  # one second on an idle machine
# What is in flight gets its deadlines, then the producer its own; a process that needs longer will be killed by
# whoever deploys it.
TERM_DEADLINE_S = 30.0
SETTLE_DEADLINE_S = 60.0
_ANSWER_DEADLINE_S = 5.0
_POLL_S = 0.05
_LOG_TAIL_BYTES = 3000


class Instance:
    """Its ports and its data outlive its process. `violations` are the ends of processes that nobody asked for."""

    def __init__(
        self,
        name: str,
        directory: Path,
        servers: str,
        prefix: str,
        *,
        command: Sequence[str] = SERVE,
        environment: Mapping[str, str] | None = None,
        **settings: str,
    ) -> None:
        self.name = name
        self.data_dir = directory / name
        self.log_file = directory / f"{name}.log"
        self.starts = 0
        self.violations: list[str] = []
        self._port, self._ops_port = free_ports(2)
        self._command = [sys.executable, *command]
        self._process: subprocess.Popen[bytes] | None = None
        own = {
            "HOST": HOST,
            "PORT": str(self._port),
            "OPS_PORT": str(self._ops_port),
            "DATA_DIR": str(self.data_dir),
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "TOPIC_PREFIX": prefix,
            "WEBHOOK_KEYS": f"faults:{SECRET}",
            "IDENTITY_KEY": IDENTITY_KEY,
            "LOG_FORMAT": "json",
            **{name.upper(): value for name, value in settings.items()},
        }
        self._environment = {
            **os.environ,
            **{f"RINGLOG_{name}": value for name, value in own.items()},
            **(environment or {}),
        }

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str] | None = None) -> None:
        """Returns at once. The process dies with ours. `command` is for this start only."""
        self.watch()
        command = self._command if command is None else [sys.executable, *command]
        with self.log_file.open("ab") as log:
            self._process = spawn(command, log=log, directory=ROOT, environment=self._environment)
        self.starts += 1

    async def started(self) -> "Instance":
        """Starts it and waits until it is connected to Kafka."""
        self.start()
        await self.connects()
        return self

    async def connects(self) -> None:
        await self.until("ringlog_kafka_connected", {1.0}, START_DEADLINE_S)

    async def listens(self) -> None:
        """Returns when it answers, whatever it says of Kafka."""
        await self.until("ringlog_kafka_connected", {0.0, 1.0}, START_DEADLINE_S)

    def kill(self) -> None:
        """`kill -9`; returns when the process is gone."""
        self.watch()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def struck(self) -> None:
        """Returns when the process, which was started to be, is killed."""
        process, self._process = self._process, None
        assert process is not None
        try:
            code = await asyncio.to_thread(process.wait, START_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(
                f"{self.name} was not struck within {START_DEADLINE_S:g} s:\n{self.log_tail()}"
            ) from None
        assert code == -signal.SIGKILL, f"{self.name} ended with {code}:\n{self.log_tail()}"

    async def terminate(self) -> float:
        """SIGTERM; the seconds that it took to end in order. Anything but exit code 0 is a violation."""
        self.watch()
        process, self._process = self._process, None
        if process is None:
            return 0.0
        started = time.monotonic()
        process.terminate()
        try:
            code = await asyncio.to_thread(process.wait, TERM_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.violations.append(f"{self.name} had not ended {TERM_DEADLINE_S:g} s after SIGTERM")
        else:
            if code != 0:
                self.violations.append(f"{self.name} ended with {code} after SIGTERM")
        return time.monotonic() - started

    def pause(self) -> None:
        self.watch()
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def watch(self) -> None:
        """A process that has ended without having been asked to is a violation, written down once."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            self.violations.append(f"{self.name}, start {self.starts}, ended by itself with {code}:\n{self.log_tail()}")

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """What `/health/ready` says. Raises `aiohttp.ClientError`, `TimeoutError`."""
        status, text = await self._get("/health/ready")
        assert status in (200, 503), text
        reasons: dict[str, Any] = json.loads(text)
        return status == 200, reasons

    async def metric(self, name: str, **labels: str) -> float | None:
        """The sum over all samples that have these labels; None when there is none, or when nobody answers."""
        try:
            _, text = await self._get("/metrics")
        except (aiohttp.ClientError, TimeoutError):
            return None
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    async def until(self, metric: str, values: set[float], within_s: float = SETTLE_DEADLINE_S) -> float:
        """The seconds that it took the metric to have one of the values. Raises `AssertionError`."""
        started = time.monotonic()
        while (found := await self.metric(metric)) not in values:
            assert self.is_running, f"{self.name} has ended:\n{self.log_tail()}"
            if time.monotonic() - started > within_s:
                said = await self._get("/health/ready")
                raise AssertionError(
                    f"{metric} of {self.name} is {found} after {within_s:g} s, not {values}; it says {said}:\n"
                    + self.log_tail()
                )
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - started

    async def settled(self, within_s: float = SETTLE_DEADLINE_S) -> float:
        """Waits until nothing waits for Kafka, neither in memory nor in the spool; how long it took."""
        started = time.monotonic()
        await self.until("ringlog_spool_events", {0.0}, within_s)
        await self.until("ringlog_events_waiting", {0.0}, within_s)
        return time.monotonic() - started

    def log_tail(self) -> str:
        """Without what the load itself causes."""
        lines = self.log_file.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if "service.quarantine" not in line)[-_LOG_TAIL_BYTES:]

    async def _get(self, path: str) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(_ANSWER_DEADLINE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"http://{HOST}:{self._ops_port}{path}") as response,
        ):
            return response.status, await response.text()
