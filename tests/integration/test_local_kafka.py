"""The embedded Kafka, for real: what it keeps through kills, pauses, a stranger on its port, its parent's end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from runtime import local_kafka
from runtime.local_kafka import KAFKA_VERSION, LocalKafka, LocalKafkaError
from runtime.local_kafka.cache import cache_directory, scratch
from runtime.local_kafka.jars import distribution_directory, ensure_jars
from runtime.local_kafka.node import Node
from runtime.local_kafka.ports import HOST
from runtime.local_kafka.probe import read_metadata
from runtime.local_kafka.progress import ConsoleProgress

REPOSITORY = Path(local_kafka.__file__).parents[2]
EVENT_LIMIT_BYTES = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
async def topic(kafka: LocalKafka) -> str:
    return await create_topic(kafka.bootstrap_servers)


async def create_topic(bootstrap_servers: str) -> str:
    name = f"calls.{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        limits = {"max.message.bytes": str(EVENT_LIMIT_BYTES)}
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=limits)])
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def producing(bootstrap_servers: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        max_request_size=EVENT_LIMIT_BYTES,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(bootstrap_servers: str, topic: str, *values: bytes) -> None:
    async with producing(bootstrap_servers) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def read_all(bootstrap_servers: str, topic: str) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        fetch_max_bytes=2 * EVENT_LIMIT_BYTES,
        max_partition_fetch_bytes=2 * EVENT_LIMIT_BYTES,
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while len(values) < end:
            values += [record.value for record in (await consumer.getmany(timeout_ms=500)).get(partition, [])]
        return values
    finally:
        await consumer.stop()


def cluster_id(kafka: LocalKafka) -> str | None:
    return read_metadata(int(kafka.bootstrap_servers.split(":")[1])).cluster_id


def lives(pid: int) -> bool:
    """Whether the process runs; a zombie, whose parent has not asked for its status, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def processes_naming(path: str) -> list[int]:
    """The processes that have the path in their command line or environment's tool options."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.encode() in (process / "cmdline").read_bytes() + (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def eventually(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def test_what_was_acknowledged_is_read(kafka: LocalKafka, topic: str) -> None:
    await send(kafka.bootstrap_servers, topic, b"one", b"two", b"three")
    assert await read_all(kafka.bootstrap_servers, topic) == [b"one", b"two", b"three"]


async def test_an_event_as_large_as_our_topics_allow_passes(kafka: LocalKafka, topic: str) -> None:
    event = os.urandom(EVENT_LIMIT_BYTES - 1024)
    await send(kafka.bootstrap_servers, topic, event)
    assert await read_all(kafka.bootstrap_servers, topic) == [event]


async def test_a_misspelt_topic_is_not_created(kafka: LocalKafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        async with producing(kafka.bootstrap_servers) as producer:
            # Asking for a topic's partitions is what creates it where that is allowed.
            with pytest.raises((KafkaError, TimeoutError)):
                await asyncio.wait_for(producer.partitions_for("calls.endde"), 2)
        assert "calls.endde" not in await admin.list_topics()
    finally:
        await admin.close()


def test_it_listens_on_loopback_only(kafka: LocalKafka) -> None:
    inodes = set()
    for descriptor in Path(f"/proc/{kafka.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(descriptor))  # noqa: PTH115 - socket:[123] is no path
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.append(fields[1].split(":")[0])
    # 127.0.0.1 as the kernel writes it: the broker's listener and the controller's.
    assert listening == ["0100007F", "0100007F"]


def test_it_says_what_it_is(kafka: LocalKafka) -> None:
    sentence = kafka.describe()
    assert f"Apache Kafka {KAFKA_VERSION} on Java " in sentence
    assert kafka.bootstrap_servers in sentence
    assert str(kafka.log_file) in sentence


async def test_a_kill_loses_nothing_and_changes_no_address(kafka: LocalKafka, topic: str) -> None:
    before = (kafka.bootstrap_servers, cluster_id(kafka), kafka.pid)
    await send(kafka.bootstrap_servers, topic, b"acknowledged")
    await asyncio.to_thread(kafka.kill)
    assert not kafka.is_ready()
    await asyncio.to_thread(kafka.restart)
    assert (kafka.bootstrap_servers, cluster_id(kafka)) == before[:2]
    assert kafka.pid != before[2]
    assert await read_all(kafka.bootstrap_servers, topic) == [b"acknowledged"]
    assert kafka.log_file.with_name("broker.log.1").exists()


async def test_a_paused_broker_acknowledges_nothing_until_it_resumes(kafka: LocalKafka, topic: str) -> None:
    async with producing(kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"before")
        kafka.pause()
        try:
            assert not await asyncio.to_thread(kafka.is_ready)
            acknowledgement = await producer.send(topic, b"meanwhile")
            done, _pending = await asyncio.wait([acknowledgement], timeout=0.5)
            assert not done
        finally:
            kafka.resume()
        await asyncio.wait_for(acknowledgement, 20)
    assert await read_all(kafka.bootstrap_servers, topic) == [b"before", b"meanwhile"]


async def test_a_second_one_takes_other_ports_and_other_data(kafka: LocalKafka, tmp_path: Path) -> None:
    port = int(kafka.bootstrap_servers.split(":")[1])
    second = LocalKafka(tmp_path, port=port)
    with second:
        assert second.bootstrap_servers != kafka.bootstrap_servers
        assert cluster_id(second) != cluster_id(kafka)
        topic = await create_topic(second.bootstrap_servers)
        await send(second.bootstrap_servers, topic, b"kept")
        first_pid, first_address = second.pid, second.bootstrap_servers

        with pytest.raises(LocalKafkaError, match="runs already"):
            second.launch()
    assert not lives(first_pid)

    # Stopped in order, and while it was away somebody took its port.
    with socket.create_server((HOST, int(first_address.split(":")[1]))), LocalKafka(tmp_path, port=port) as third:
        assert third.bootstrap_servers not in (first_address, kafka.bootstrap_servers)
        assert await read_all(third.bootstrap_servers, topic) == [b"kept"]


def test_two_that_start_at_once_and_wish_for_the_same_port_both_run(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        wished = listener.getsockname()[1]
    pair = [LocalKafka(tmp_path / name, port=wished) for name in ("one", "two")]
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(LocalKafka.start, pair))
        assert len({broker.bootstrap_servers for broker in pair}) == 2
        assert all(broker.is_ready() for broker in pair)
    finally:
        for broker in pair:
            broker.stop(grace_s=0)


def test_the_data_of_a_running_one_is_refused(kafka: LocalKafka) -> None:
    with pytest.raises(LocalKafkaError, match="another Kafka runs on the data"):
        Node(kafka.log_file.parent).wait_until_unused(patience_s=0.2)
    assert kafka.is_ready()


def test_a_broker_that_can_not_start_tells_why(tmp_path: Path) -> None:
    kafka = LocalKafka(tmp_path, properties={"num.io.threads": "none"})
    kafka.launch()
    with pytest.raises(LocalKafkaError, match=r"(?s)ended with exit code 1; its log .*num\.io\.threads"):
        kafka.wait_ready(20)


# The thread that calls launch() ends at once, as one of a pool may: that alone must not end the broker.
PARENT = """
import sys, threading, time
from pathlib import Path
from runtime.local_kafka import LocalKafka
kafka = LocalKafka(Path(sys.argv[1]))
launcher = threading.Thread(target=kafka.launch)
launcher.start()
launcher.join()
kafka.wait_ready()
print(kafka.pid, kafka.bootstrap_servers, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
async def test_it_dies_with_its_parent_and_the_next_one_finds_everything(tmp_path: Path) -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 - a fork, at the start of a test: nothing else waits
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        assert parent.stdout is not None
        answer = await asyncio.to_thread(parent.stdout.readline)
        pid, address = int(answer.split()[0]), answer.split()[1]
        topic = await create_topic(address)
        await send(address, topic, b"yesterday's event")
        assert lives(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    # At once, while the broker is still dying: it must be waited for, not run away from.
    try:
        with LocalKafka(tmp_path) as kafka:
            assert not lives(pid)
            assert kafka.bootstrap_servers == address
            assert await read_all(address, topic) == [b"yesterday's event"]
    finally:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_archive_build_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    """With the machine's jars in a cache of its own, so that the archive is what is missing."""
    progress = ConsoleProgress()
    real = distribution_directory(cache_directory())
    ensure_jars(real, progress)
    fresh = distribution_directory(tmp_path / "cache")
    fresh.mkdir(parents=True)
    (fresh / "jars").symlink_to(real / "jars")
    (fresh / "bootstrap.checkpoint").symlink_to(real / "bootstrap.checkpoint")
    script = "import sys; from pathlib import Path; from runtime.local_kafka import LocalKafka\n"
    script += "LocalKafka(Path(sys.argv[1])).prepare()\n"
    builder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "data")],
        cwd=REPOSITORY,
        env=os.environ | {"RINGLOG_CACHE_DIR": str(tmp_path / "cache")},
        stderr=subprocess.DEVNULL,
    )
    try:
        # Its broker has run and ended, and the JVM is writing.
        assert eventually(lambda: any(fresh.glob("unfinished-*/classes-*")), within_s=60)
    finally:
        builder.kill()
        builder.wait()
        # The JVM that writes is a child of the one that ran; it would end by itself, some seconds later.
        for pid in processes_naming(str(fresh)):
            os.kill(pid, signal.SIGKILL)
    assert not list(fresh.glob("classes-*"))
    with scratch(fresh, progress) as mine:
        assert list(fresh.glob("unfinished-*")) == [mine]
