"""The command line of any JVM that we start from Kafka's class path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.local_kafka.java import Java

BROKER_CLASS = "kafka.Kafka"
FORMAT_CLASS = "kafka.tools.StorageTool"

# For one developer's broker: quick to start and small (200-300 MB resident), not fast under load.
FLAGS = (
    "-Xms48m",
    # Several fetches of 10 MiB events at once, each copied for its response, must fit.
    "-Xmx512m",
    "-Xss512k",
    # Fewer threads and less memory than G1.
    "-XX:+UseSerialGC",
    # The first compiler alone: the second one pays off after minutes, and competes with us for two cores.
    "-XX:TieredStopAtLevel=1",
    "-XX:ReservedCodeCacheSize=48m",
    "-XX:-UsePerfData",
    # A broker that lives on without memory answers nothing; one that exits is restarted.
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    # Errors of the JVM only: it would report a class archive that it can't use at every start.
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
)


def java_command(
    java: Java, classpath: Sequence[Path], main_class: str, *arguments: str, flags: Sequence[str] = ()
) -> list[str]:
    """The whole command: the executable, our flags, more ``flags``, the class path, the class, its arguments."""
    joined = ":".join(str(jar) for jar in classpath)
    return [str(java.path), *FLAGS, *flags, "-cp", joined, main_class, *arguments]
