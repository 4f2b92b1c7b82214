"""One JVM of a cluster: its files and its process."""

import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.local_kafka.archive import ClassArchive, ensure_archive, ensure_checkpoint
from runtime.local_kafka.cache import cache_directory
from runtime.local_kafka.error import LocalKafkaError
from runtime.local_kafka.jars import distribution_directory, ensure_jars
from runtime.local_kafka.java import Java, environment, find_java
from runtime.local_kafka.jvm import BROKER_CLASS, java_command
from runtime.local_kafka.node import new_id
from runtime.local_kafka.process import end, spawn
from runtime.local_kafka.progress import ConsoleProgress

# Bodies of these tests have some kilobytes: what a fetch and a produce request hold fits many times.
HEAP = "-Xmx192m"

_LOG_TAIL_BYTES = 3000


@dataclass(frozen=True)
class Distribution:
    """What every member of every cluster is started from."""

    java: Java
    classpath: tuple[Path, ...]
    checkpoint: Path
    archive: ClassArchive

    @classmethod
    def find(cls) -> "Distribution":
        """Raises `LocalKafkaError` when this machine can't run Kafka."""
        java, progress = find_java(), ConsoleProgress()
        directory = distribution_directory(cache_directory())
        classpath = ensure_jars(directory, progress)
        checkpoint = ensure_checkpoint(java, classpath, directory, progress)
        return cls(java, classpath, checkpoint, ensure_archive(java, classpath, directory, checkpoint, progress))


class Member:
    """A broker or a controller. Its data outlives its process; its process never outlives ours."""

    def __init__(self, distribution: Distribution, directory: Path, node_id: int, cluster_id: str) -> None:
        self.node_id = node_id
        self.data = directory / "data"
        self.is_paused = False
        self.log_file = directory / "kafka.log"
        self._distribution = distribution
        self._directory = directory
        self._properties = directory / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True)
        shutil.copyfile(distribution.checkpoint, self.data / "bootstrap.checkpoint")
        (self.data / "meta.properties").write_text(
            f"version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={new_id()}\n"
        )

    def configure(self, properties: Mapping[str, str]) -> None:
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def launch(self) -> None:
        """Returns at once. Raises `OSError`."""
        flags = [HEAP, *self._distribution.archive.flags_to_use, f"-XX:ErrorFile={self._directory}/crash-%p.log"]
        command = java_command(
            self._distribution.java, self._distribution.classpath, BROKER_CLASS, str(self._properties), flags=flags
        )
        with self.log_file.open("ab") as log:
            self._process = spawn(command, log=log, directory=self._directory, environment=environment())

    @property
    def is_running(self) -> bool:
        """Paused counts as running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._launched().pid

    def pause(self) -> None:
        self.is_paused = True
        self._launched().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Nothing when it isn't paused, or is gone."""
        self.is_paused = False
        self._launched().send_signal(signal.SIGCONT)

    def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL; with no grace SIGKILL at once. Returns when the process is gone."""
        if self._process is not None:
            end(self._process, grace_s)
        self.is_paused = False

    def failure(self, what: str) -> LocalKafkaError:
        tail = self.log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        return LocalKafkaError(f"node {self.node_id} {what}; its log {self.log_file} ends:\n{tail}")

    def _launched(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"node {self.node_id} was never started"
        return self._process
