"""Kafka's jars: which ones, where they are kept, how they are fetched.

``jars.lock`` names every jar with its size and SHA-256. So a start needs no resolution, a mirror need not be
trusted, and a jar in the cache is either the right one or is fetched again. To move to another Kafka, change
the constants below and run ``python -m runtime.local_kafka.relock``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.local_kafka.cache import scratch
from runtime.local_kafka.error import LocalKafkaError, imports_of_the_extra
from runtime.local_kafka.progress import Advance, Progress

# The version that ringlog's promises are tested against; the containers of the tests run the same one.
KAFKA_VERSION = "4.3.1"
# Kafka's classes call slf4j 1.7, and a binding of the 2.x line would not be found by it. The simple one logs to
# stderr and is configured by JVM flags alone: no file to place, and one jar.
SLF4J_VERSION = "1.7.36"

ROOTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", f"org.slf4j:slf4j-simple:{SLF4J_VERSION}")
LOCK_FILE = Path(__file__).with_name("jars.lock")

# Four at a time halve the time of one; more would only be impolite to the repository.
PARALLEL_DOWNLOADS = 4

# The JVM refuses a class archive when a jar's time has changed, so a jar that is fetched again gets the same
# one: 2020-01-01, any fixed one will do.
_JAR_TIME_S = 1_577_836_800


@dataclass(frozen=True)
class Jar:
    """One locked jar. ``coordinate`` is ``group:artifact:version``."""

    coordinate: str
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """Its file name, unique among the locked ones."""
        _group, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def is_in(self, folder: Path) -> bool:
        """Whether a file of its size is there; whole contents are compared once, before it gets there."""
        try:
            return (folder / self.name).stat().st_size == self.size_bytes
        except FileNotFoundError:
            return False


def locked_jars() -> tuple[Jar, ...]:
    """The jars of ``jars.lock``, in the order of the class path."""
    lines = (line.split() for line in LOCK_FILE.read_text().splitlines() if not line.startswith("#"))
    return tuple(Jar(coordinate, int(size), sha256) for coordinate, size, sha256 in lines)


def distribution_directory(cache: Path) -> Path:
    """Where this Kafka lives in the cache: its jars and what was made from them. Another lock, another folder."""
    digest = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    return cache / f"kafka-{KAFKA_VERSION}-{digest[:12]}"


def ensure_jars(directory: Path, progress: Progress) -> tuple[Path, ...]:
    """Kafka's class path, with all its jars in place below ``directory``.

    Nothing is fetched, and no lock is taken, when they are all there.

    Raises:
        LocalKafkaError: a jar is missing and can't be fetched, or what came is not what is locked.
    """
    folder, jars = directory / "jars", locked_jars()
    if any(not jar.is_in(folder) for jar in jars):
        with scratch(directory, progress) as workshop:
            # Asked again under the lock: another process may have fetched them while we waited.
            missing = [jar for jar in jars if not jar.is_in(folder)]
            if missing:
                folder.mkdir(exist_ok=True)
                _fetch(missing, folder, workshop, progress)
    return tuple(folder / jar.name for jar in jars)


def _fetch(missing: list[Jar], folder: Path, workshop: Path, progress: Progress) -> None:
    total_bytes = sum(jar.size_bytes for jar in missing)
    title = f"Downloading Apache Kafka {KAFKA_VERSION} ({total_bytes / 1e6:.0f} MB, once on this machine)"
    with progress.step(title, total_bytes) as advance, ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        download = _downloader(workshop, advance)
        # Taking the results raises the first failure, and what has not begun by then is cancelled.
        list(pool.map(lambda jar: _fetch_one(jar, download, folder), missing))


def _fetch_one(jar: Jar, download: Callable[[str], Path], folder: Path) -> None:
    try:
        came = download(jar.coordinate)
    except (OSError, RuntimeError) as failed:
        # requests' errors are OSErrors; jgo says RuntimeError when no repository has it.
        raise LocalKafkaError(
            f"Apache Kafka {KAFKA_VERSION} could not be downloaded ({jar.name}: {failed}): connect this machine to "
            "the internet once, or name a mirror in the [repositories] of ~/.config/jgo.conf, or set "
            "RINGLOG_KAFKA_BOOTSTRAP_SERVERS to a Kafka of your own"
        ) from failed
    sha256 = file_sha256(came)
    if sha256 != jar.sha256:
        raise LocalKafkaError(
            f"the download of {jar.name} has SHA-256 {sha256} instead of {jar.sha256}: start again, and if it "
            "stays so, look at the proxy or mirror in between"
        )
    os.utime(came, (_JAR_TIME_S, _JAR_TIME_S))
    came.replace(folder / jar.name)


def _downloader(workshop: Path, advance: Advance) -> Callable[[str], Path]:
    """A function from coordinate to downloaded file, by jgo's own client.

    The user's ~/.m2 is neither read nor written: jgo takes any file that is there for complete.
    """
    with imports_of_the_extra():
        from jgo.config import GlobalSettings  # noqa: PLC0415 - only the extra brings it
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415 - only the extra brings it
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - only the extra brings it

    @contextmanager
    def one_file(_name: str, _size: int) -> Iterator[Advance]:
        yield advance

    context: Any = MavenContext(
        resolver=PythonResolver(progress_callback=one_file),
        repo_cache=workshop,
        remote_repos={"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories,
    )

    def download(coordinate: str) -> Path:
        group, artifact, version = coordinate.split(":")
        return Path(context.project(group, artifact).at_version(version).artifact().resolve())

    return download


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
