"""The files of one Kafka node: its settings, its identity, its data."""

from __future__ import annotations

import base64
import fcntl
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from runtime.local_kafka.error import LocalKafkaError
from runtime.local_kafka.ports import HOST, Ports, write_atomically

NODE_ID = 1

# Our topics take events of 10 MiB (max.message.bytes); the broker's own limit, that of topics without one and of
# what a follower fetches, leaves room for a batch's framing.
MAX_MESSAGE_BYTES = 10 * 1024 * 1024 + 64 * 1024
# A restarted broker waits for its former session to end before it serves; Kafka's 9 s are for networks.
SESSION_TIMEOUT_MS = 1500
HEARTBEAT_MS = 250
# Ten years: a consumer that was away for a holiday must find its place (Kafka forgets after seven days).
OFFSETS_RETENTION_MINUTES = 10 * 365 * 24 * 60
# How long the broker of a supervisor that was killed just now may take to be gone.
RELEASE_PATIENCE_S = 5.0
_POLL_S = 0.05


class Node:
    """A node's directory: ``server.properties``, ``ports.json``, ``broker.log`` and Kafka's own ``data``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.server_properties = self.directory / "server.properties"
        self.ports_memory = self.directory / "ports.json"
        self.log_file = self.directory / "broker.log"
        self._identity = self.data / "meta.properties"

    def format(self, checkpoint: Path) -> str:
        """Makes the data directory Kafka's, if it isn't yet; returns the cluster id, old or new.

        The same files that ``kafka-storage format`` writes, without the second that its JVM takes.

        Args:
            checkpoint: A ``bootstrap.checkpoint`` made by Kafka itself: the feature levels to begin with.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        if not self._identity.exists():
            shutil.copyfile(checkpoint, self.data / "bootstrap.checkpoint")
            # Last, because its presence says that the directory is formatted.
            write_atomically(
                self._identity,
                f"version=1\ncluster.id={new_id()}\nnode.id={NODE_ID}\ndirectory.id={new_id()}\n",
            )
        for line in self._identity.read_text().splitlines():
            if line.startswith("cluster.id="):
                return line.removeprefix("cluster.id=").strip()
        raise LocalKafkaError(
            f"{self._identity} names no cluster.id, so it is damaged: restore it, or remove {self.data} to begin anew"
        )

    def configure(self, ports: Ports, overrides: Mapping[str, str]) -> None:
        """Writes ``server.properties``."""
        properties = broker_properties(ports, self.data) | dict(overrides)
        text = "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())
        write_atomically(self.server_properties, text)

    def wait_until_unused(self, patience_s: float = RELEASE_PATIENCE_S) -> None:
        """Returns when no broker has the data open: Kafka locks ``data/.lock`` for as long as it runs.

        Raises:
            LocalKafkaError: one still has after ``patience_s``.
        """
        deadline = time.monotonic() + patience_s
        while self._is_in_use():
            if time.monotonic() > deadline:
                raise LocalKafkaError(
                    f"another Kafka runs on the data in {self.data}: stop it, or choose another data directory"
                )
            time.sleep(_POLL_S)

    def _is_in_use(self) -> bool:
        try:
            lock = (self.data / ".lock").open("r+b")
        except FileNotFoundError:
            return False
        # Closing the file lets go of it again.
        with lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                # POSIX allows either to say that somebody else has it.
                return True
        return False


def new_id() -> str:
    """A random id in Kafka's writing of UUIDs: 22 characters of URL-safe base64."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # As Kafka does: a leading dash would look like an option to its tools.
        if not text.startswith("-"):
            return text


def broker_properties(ports: Ports, data: Path) -> dict[str, str]:
    """The settings of a single broker, its own controller, for one developer: small, quick, on loopback only."""
    listener = f"PLAINTEXT://{HOST}:{ports.broker}"
    return {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        "controller.quorum.voters": f"{NODE_ID}@{HOST}:{ports.controller}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": f"{listener},CONTROLLER://{HOST}:{ports.controller}",
        "advertised.listeners": listener,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(data),
        **_ONE_COPY,
        **_LIMITS,
        **_SMALL,
        **_QUICK,
    }


# There is one broker, so one copy of everything.
_ONE_COPY = {
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}

_LIMITS = {
    # A misspelt topic must be an error, not a new topic that forgets.
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(MAX_MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
    # A produce request holds a batch of each partition; a fetch, several. Requests that wait count, too.
    "socket.request.max.bytes": str(10 * MAX_MESSAGE_BYTES),
    "queued.max.request.bytes": str(10 * MAX_MESSAGE_BYTES),
    "offsets.retention.minutes": str(OFFSETS_RETENTION_MINUTES),
}

# Few threads and buffers: Kafka's defaults are for a machine of its own.
_SMALL = {
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "num.network.threads": "1",
    "num.io.threads": "2",
    "num.replica.fetchers": "1",
    "background.threads": "2",
    "group.coordinator.threads": "1",
    "share.coordinator.threads": "1",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
    "log.cleaner.io.buffer.size": str(512 * 1024),
    # Preallocated twice for every partition.
    "log.index.size.max.bytes": str(1024 * 1024),
    "offsets.load.buffer.size": str(1024 * 1024),
    "transaction.state.log.load.buffer.size": str(1024 * 1024),
}

# Everyone is on this machine: waits that are meant for networks only delay a start.
_QUICK = {
    "group.initial.rebalance.delay.ms": "0",
    "controller.quorum.election.timeout.ms": "250",
    "controller.quorum.election.backoff.max.ms": "250",
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.request.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": str(HEARTBEAT_MS),
    "broker.session.timeout.ms": str(SESSION_TIMEOUT_MS),
    "log.cleaner.backoff.ms": "500",
}


def _escaped(value: str) -> str:
    """Java reads a properties file with backslash escapes, and as Latin-1 or UTF-8 depending on who reads."""
    text = value.replace("\\", "\\\\")
    return "".join(char if char.isascii() else f"\\u{ord(char):04x}" for char in text)
