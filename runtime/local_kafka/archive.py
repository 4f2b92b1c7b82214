"""What is made from the jars once on a machine, so that a broker starts in one second instead of three.

* ``bootstrap.checkpoint``: the feature levels of a new cluster, written by Kafka's own formatter. It is the same
  for every cluster, so it is made once and copied.
* the class archive: classes loaded, parsed and linked, for the JVM to map into memory. A JVM writes it when it
  ends, so a broker is run once for that purpose (class data sharing in Java 17 to 24, an AOT cache since 25).
"""

from __future__ import annotations

import hashlib
import logging
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.local_kafka.cache import scratch
from runtime.local_kafka.error import LocalKafkaError
from runtime.local_kafka.java import Java, environment
from runtime.local_kafka.jvm import BROKER_CLASS, FLAGS, FORMAT_CLASS, java_command
from runtime.local_kafka.node import Node, new_id
from runtime.local_kafka.ports import choose_ports
from runtime.local_kafka.probe import is_ready
from runtime.local_kafka.process import end, spawn
from runtime.local_kafka.progress import Progress

logger = logging.getLogger(__name__)

# Java 25's AOT cache is made by one run (JEP 514); before, class data sharing does the same for less.
_FIRST_MAJOR_WITH_AOT = 25
# All measured below 15 s on two busy cores; a tenfold, because a slow machine should get its archive, too.
TOOL_DEADLINE_S = 120.0
TRAINING_START_DEADLINE_S = 120.0
TRAINING_DUMP_DEADLINE_S = 180.0
_POLL_S = 0.1


@dataclass(frozen=True)
class ClassArchive:
    """The class archive of one Java for one class path: where it lies, and the flags around it."""

    path: Path
    ahead_of_time: bool

    @classmethod
    def of(cls, java: Java, classpath: Sequence[Path], directory: Path) -> ClassArchive:
        """The archive that fits; it need not exist yet. Its name changes with all that would make it unusable."""
        # The banner does not tell the processor, and a home directory may be shared by different ones.
        parts = [platform.machine(), java.banner, *FLAGS, *(str(jar) for jar in classpath)]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
        ahead_of_time = java.major >= _FIRST_MAJOR_WITH_AOT
        suffix = "aot" if ahead_of_time else "jsa"
        return cls(directory / f"classes-java{java.major}-{key}.{suffix}", ahead_of_time)

    @property
    def flags_to_use(self) -> list[str]:
        """None while there is no archive: Kafka runs without, only slower."""
        return [self._use(self.path)] if self.path.exists() else []

    def flags_to_write(self, path: Path) -> list[str]:
        return [f"-XX:{'AOTCacheOutput' if self.ahead_of_time else 'ArchiveClassesAtExit'}={path}"]

    def flags_to_insist(self, path: Path) -> list[str]:
        """With these a JVM ends at once when the archive is damaged or not for it."""
        return [self._use(path), "-XX:AOTMode=on" if self.ahead_of_time else "-Xshare:on"]

    def _use(self, path: Path) -> str:
        return f"-XX:{'AOTCache' if self.ahead_of_time else 'SharedArchiveFile'}={path}"


def ensure_checkpoint(java: Java, classpath: Sequence[Path], directory: Path, progress: Progress) -> Path:
    """The ``bootstrap.checkpoint`` of a new cluster, made now if there is none yet.

    Raises:
        LocalKafkaError: Kafka's formatter fails.
    """
    checkpoint = directory / "bootstrap.checkpoint"
    if not checkpoint.exists():
        with scratch(directory, progress) as workshop:
            if not checkpoint.exists():
                _format(java, classpath, workshop).replace(checkpoint)
    return checkpoint


def ensure_archive(
    java: Java, classpath: Sequence[Path], directory: Path, checkpoint: Path, progress: Progress
) -> ClassArchive:
    """The class archive, made now if there is none yet. Where none can be made, that is logged: Kafka runs without."""
    archive = ClassArchive.of(java, classpath, directory)
    if archive.path.exists():
        return archive
    with scratch(directory, progress) as workshop:
        if not archive.path.exists():
            with progress.step("Preparing Kafka for quick starts (about 15 s, once on this machine)"):
                try:
                    _train(archive, java, classpath, workshop, checkpoint).replace(archive.path)
                except (OSError, subprocess.SubprocessError, LocalKafkaError) as failed:
                    logger.warning("no class archive for Kafka, starts stay slow: %s", failed)
    return archive


def _format(java: Java, classpath: Sequence[Path], workshop: Path) -> Path:
    node = Node(workshop / "formatted")
    node.directory.mkdir()
    node.configure(choose_ports(None, node.ports_memory), {})
    arguments = ["format", "--cluster-id", new_id(), "--config", str(node.server_properties)]
    command = java_command(java, classpath, FORMAT_CLASS, *arguments)
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TOOL_DEADLINE_S, env=environment())
    except (OSError, subprocess.SubprocessError) as failed:
        said = getattr(failed, "stderr", None) or getattr(failed, "stdout", None) or failed
        raise LocalKafkaError(f"Kafka's storage could not be formatted with {java.path}: {said}") from failed
    return node.data / "bootstrap.checkpoint"


def _train(archive: ClassArchive, java: Java, classpath: Sequence[Path], workshop: Path, checkpoint: Path) -> Path:
    """Runs a broker until it is ready, ends it, and has the JVM itself judge the archive that it wrote."""
    node, written = Node(workshop / "trained"), workshop / archive.path.name
    cluster_id = node.format(checkpoint)
    ports = choose_ports(None, node.ports_memory)
    node.configure(ports, {})
    flags = archive.flags_to_write(written)
    command = java_command(java, classpath, BROKER_CLASS, str(node.server_properties), flags=flags)
    with node.log_file.open("wb") as log:
        process = spawn(command, log=log, directory=node.directory, environment=environment())
    try:
        deadline = time.monotonic() + TRAINING_START_DEADLINE_S
        while not is_ready(ports.broker, cluster_id):
            if process.poll() is not None or time.monotonic() > deadline:
                raise LocalKafkaError(f"the broker did not start: {node.log_file.read_text()[-1000:]}")
            time.sleep(_POLL_S)
        end(process, TRAINING_DUMP_DEADLINE_S)
    finally:
        end(process, 0)
    insist = java_command(java, classpath, "-version", flags=archive.flags_to_insist(written))
    subprocess.run(insist, check=True, capture_output=True, timeout=TOOL_DEADLINE_S, env=environment())
    return written
