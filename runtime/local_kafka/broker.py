"""A real Apache Kafka of one node on this machine, with nothing but Python: for ``ringlog up`` and the tests."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from runtime.local_kafka.archive import ClassArchive, ensure_archive, ensure_checkpoint
from runtime.local_kafka.cache import cache_directory
from runtime.local_kafka.error import LocalKafkaError
from runtime.local_kafka.jars import KAFKA_VERSION, distribution_directory, ensure_jars
from runtime.local_kafka.java import Java, environment, find_java
from runtime.local_kafka.jvm import BROKER_CLASS, java_command
from runtime.local_kafka.node import Node
from runtime.local_kafka.ports import HOST, Ports, choose_ports, is_free
from runtime.local_kafka.probe import is_ready
from runtime.local_kafka.process import KILL_DEADLINE_S, end, spawn
from runtime.local_kafka.progress import ConsoleProgress, Progress

# Ready in one to two seconds with the class archive, four without; this is for a machine that is very busy.
READY_DEADLINE_S = 60.0
# An orderly stop takes about a second. After kill -9 the log is checked at the next start, nothing is lost.
STOP_GRACE_S = 10.0
# Ports are free when they are chosen and may be taken when the broker binds them, a second later: two that start
# at once wish for the same one. Thrice in a row is no coincidence.
PORT_ATTEMPTS = 3
_POLL_S = 0.02
# Enough for the exception that ended a broker; the whole is in the file.
_LOG_TAIL_BYTES = 3000


@dataclass(frozen=True)
class _Prepared:
    """What ``prepare()`` found out, and ``command()`` needs."""

    java: Java
    classpath: tuple[Path, ...]
    archive: ClassArchive
    ports: Ports
    cluster_id: str


class LocalKafka:
    """One broker, its own controller, on the loopback interface, with its data below ``directory``.

    Who wants a broker to use says ``with LocalKafka(directory) as kafka:``. A supervisor, which spawns by its own
    means, calls ``prepare()`` before every start of the process, spawns ``command()`` with ``environment()`` and
    ``open_log()`` from a thread that stays, and awaits ``is_ready()``. All methods block, ``prepare()`` the first
    time on a machine for half a minute: an event loop calls it in a thread. An object is for one caller at a time.

    The data outlives the process: another LocalKafka on the same directory finds cluster, topics and positions.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """
        Args:
            directory: Where data, configuration and ``broker.log`` lie; made when missing.
            port: The port for clients if it is free. Otherwise, and with None, the one used last in this
                directory, else any free one.
            properties: Broker settings that go before ours.
            progress: Told of slow steps; by default they are shown on stderr.
        """
        self._node = Node(Path(directory))
        self._preferred_port = port
        self._properties = dict(properties or {})
        self._progress: Progress = progress or ConsoleProgress()
        self._prepared: _Prepared | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Everything up to the start: Java, jars, class archive, the directory, ports that are free now.

        Raises:
            LocalKafkaError: something of it can't be had; the message says what to do.
        """
        java = find_java()
        distribution = distribution_directory(cache_directory())
        classpath = ensure_jars(distribution, self._progress)
        checkpoint = ensure_checkpoint(java, classpath, distribution, self._progress)
        archive = ensure_archive(java, classpath, distribution, checkpoint, self._progress)
        try:
            self._node.wait_until_unused()
            cluster_id = self._node.format(checkpoint)
            # A port that clients know already goes before the preferred one.
            wished = self._prepared.ports.broker if self._prepared else self._preferred_port
            ports = choose_ports(wished, self._node.ports_memory)
            self._node.configure(ports, self._properties)
        except OSError as refused:
            raise LocalKafkaError(f"Kafka can't use {self._node.directory}: {refused}") from refused
        self._prepared = _Prepared(java, classpath, archive, ports, cluster_id)

    def command(self) -> list[str]:
        """The command that runs the broker in the foreground; SIGTERM stops it in order. After ``prepare()``."""
        prepared = self._ready_to_start()
        flags = [*prepared.archive.flags_to_use, f"-XX:ErrorFile={self._node.directory}/jvm-crash-%p.log"]
        return java_command(
            prepared.java,
            prepared.classpath,
            BROKER_CLASS,
            str(self._node.server_properties),
            flags=flags,
        )

    def environment(self) -> dict[str, str]:
        """The environment for ``command()``: this process's, less the variables that would change the JVM."""
        return environment()

    def open_log(self) -> IO[bytes]:
        """A new ``broker.log`` for a process's output. The last one becomes ``broker.log.1``; older ones go."""
        log_file = self._node.log_file
        if log_file.exists():
            log_file.replace(log_file.with_name(f"{log_file.name}.1"))
        return log_file.open("wb")

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts the process, which dies with ours, and returns at once. Prepares first if nobody has.

        Raises:
            LocalKafkaError: see ``prepare()``; or it is running already.
        """
        if self._process is not None and self._process.poll() is None:
            raise LocalKafkaError(f"this Kafka runs already, as process {self._process.pid}")
        if self._prepared is None:
            self.prepare()
        with self.open_log() as log:
            self._process = spawn(
                self.command(), log=log, directory=self._node.directory, environment=self.environment()
            )
        return self._process

    def start(self, timeout_s: float = READY_DEADLINE_S) -> None:
        """Prepares, launches and waits until it is ready; with other ports when somebody was quicker to take ours.

        Raises:
            LocalKafkaError: see ``prepare()`` and ``wait_ready()``.
        """
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.prepare()
            self.launch()
            try:
                return self.wait_ready(timeout_s)
            except LocalKafkaError:
                if attempt == PORT_ATTEMPTS or not self._lost_its_ports():
                    raise

    def is_ready(self) -> bool:
        """Whether our own broker answers now. Takes a second at most, a millisecond mostly."""
        prepared = self._ready_to_start()
        return is_ready(prepared.ports.broker, prepared.cluster_id)

    def wait_ready(self, timeout_s: float = READY_DEADLINE_S) -> None:
        """Returns when clients can use the broker.

        Raises:
            LocalKafkaError: it ended, or was not ready in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if self._process is not None and self._process.poll() is not None:
                raise self._failure(f"ended with exit code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready within {timeout_s:g} s")
            time.sleep(_POLL_S)

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` for clients, after ``prepare()``. The same over restarts while the port stays free."""
        return f"{HOST}:{self._ready_to_start().ports.broker}"

    @property
    def log_file(self) -> Path:
        """Where the broker's warnings and errors are, of this start alone."""
        return self._node.log_file

    @property
    def pid(self) -> int:
        """The process that ``launch()`` started last, running or not."""
        return self._launched().pid

    def describe(self) -> str:
        """One sentence: which Kafka, on which Java, where, and where its log is."""
        prepared = self._ready_to_start()
        return (
            f"Apache Kafka {KAFKA_VERSION} on Java {prepared.java.version} ({prepared.java.path}) "
            f"at {self.bootstrap_servers}, data in {self._node.data}, log in {self.log_file}"
        )

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """SIGTERM, and SIGKILL when it has not ended within ``grace_s`` seconds. Nothing if it isn't running."""
        if self._process is not None:
            end(self._process, grace_s)

    def kill(self) -> None:
        """SIGKILL, as if the machine's memory had run out; returns when the process is gone."""
        process = self._launched()
        process.kill()
        process.wait(KILL_DEADLINE_S)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as of a broker that hangs."""
        self._launched().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after ``pause()``."""
        self._launched().send_signal(signal.SIGCONT)

    def restart(self, timeout_s: float = READY_DEADLINE_S) -> None:
        """Kills the process if it still runs and starts it again: same data, and same port unless somebody took it.

        Raises:
            LocalKafkaError: it doesn't start again.
        """
        self.stop(grace_s=0)
        self.start(timeout_s)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop(grace_s=0)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _ready_to_start(self) -> _Prepared:
        if self._prepared is None:
            raise LocalKafkaError("this Kafka is not prepared yet: call prepare() or launch() first")
        return self._prepared

    def _launched(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise LocalKafkaError("this Kafka was not started by launch(), so its process is not ours to signal")
        return self._process

    def _lost_its_ports(self) -> bool:
        ports = self._ready_to_start().ports
        ended = self._launched().poll() is not None
        return ended and not (is_free(ports.broker) and is_free(ports.controller))

    def _failure(self, what: str) -> LocalKafkaError:
        try:
            tail = self.log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError as unreadable:
            tail = str(unreadable)
        return LocalKafkaError(f"Kafka {what}; its log {self.log_file} ends:\n{tail or '(nothing)'}")
