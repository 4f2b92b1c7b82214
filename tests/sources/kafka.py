"""Where the tests' Kafka comes from: a given one, a container, or the embedded one of `ringlog up`."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from aiokafka.errors import GroupCoordinatorNotAvailableError

from runtime.kafka import make_admin, start_within, stop_within
from runtime.local_kafka import LocalKafka, LocalKafkaError
from runtime.settings import Settings
from tests.sources.origin import Server, Unavailable, first_available, given

IMAGE = "apache/kafka:4.3.1"

START_DEADLINE_S = 60


def open_kafka(directory: Path) -> AbstractContextManager[Server]:
    """A broker's bootstrap servers. Entering raises `Unavailable`."""
    return first_available(
        "Kafka",
        {
            "given": partial(given, "RINGLOG_TEST_KAFKA_BOOTSTRAP_SERVERS"),
            "containers": _container,
            "local": partial(_embedded, directory),
        },
    )


@contextmanager
def _container() -> Iterator[Server]:
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    from tests.sources.docker_engine import container_of, running

    container = container_of(IMAGE)
    host = container.get_docker_client().host()
    port = _free_port()  # chosen by us: a broker must know at its start which address it tells its clients
    container.with_bind_ports(9092, port).with_envs(
        KAFKA_NODE_ID="1",
        KAFKA_PROCESS_ROLES="broker,controller",
        KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
        KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
        # The broker asks itself whether a transaction is open, where clients outside would reach it and it may not.
        KAFKA_LISTENERS="PLAINTEXT://:9092,CONTROLLER://:9093,INSIDE://localhost:9094",
        KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://{host}:{port},INSIDE://localhost:9094",
        KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT",
        KAFKA_INTER_BROKER_LISTENER_NAME="INSIDE",
        KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
        KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS="1",
        KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
        KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
        KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
        KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
        KAFKA_HEAP_OPTS="-Xms64m -Xmx384m",
    )
    container.waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(START_DEADLINE_S))
    with running(container):
        yield Server(f"{host}:{port}", f"container of {IMAGE} at {host}:{port}")


@contextmanager
def _embedded(directory: Path) -> Iterator[Server]:
    kafka = LocalKafka(directory)
    try:
        try:
            kafka.launch()
            kafka.wait_ready(START_DEADLINE_S)
        except LocalKafkaError as error:
            raise Unavailable(str(error)) from error
        yield Server(kafka.bootstrap_servers, f"embedded, {kafka.describe()}")
    finally:
        kafka.stop(0)  # at once: its data goes with the run


async def wait_for_groups(settings: Settings) -> None:
    """The first group of a cluster waits for a topic to be made, seconds in a container; no test is about that."""
    admin = make_admin(settings)
    await start_within(admin)
    try:
        async with asyncio.timeout(START_DEADLINE_S):
            while True:
                with suppress(GroupCoordinatorNotAvailableError):
                    await admin.find_coordinator("ringlog.tests")
                    return
                await asyncio.sleep(0.1)
    finally:
        await stop_within(admin)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
