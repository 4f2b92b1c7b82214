"""A broker under which a killed member of a group is soon forgotten."""

import os
from collections.abc import Iterator

import pytest

from runtime.local_kafka import LocalKafka, LocalKafkaError

# The sessions of members there. Two hundred times Kafka's ten seconds would be too many.
QUICK_MS = 1000


@pytest.fixture(scope="package")
def quick_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its bootstrap servers."""
    properties = {"group.min.session.timeout.ms": "500"}  # Kafka's own is six seconds
    kafka = LocalKafka(tmp_path_factory.mktemp("quick-kafka"), properties=properties)
    try:
        kafka.start()
    except LocalKafkaError as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error}. In CI nothing is skipped.", pytrace=False)
        pytest.skip(str(error))
    yield kafka.bootstrap_servers
    kafka.stop(0)
