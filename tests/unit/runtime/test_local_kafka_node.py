"""The files of an embedded broker: what is written, what is kept, what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.local_kafka import LocalKafkaError
from runtime.local_kafka.node import Node
from runtime.local_kafka.ports import Ports


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "kafka")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "bootstrap.checkpoint"
    path.write_bytes(b"feature levels")
    return path


def properties_of(node: Node) -> dict[str, str]:
    lines = node.server_properties.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_a_new_directory_gets_an_identity_and_the_checkpoint(node: Node, checkpoint: Path) -> None:
    cluster_id = node.format(checkpoint)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", cluster_id)
    identity = (node.data / "meta.properties").read_text()
    assert f"cluster.id={cluster_id}\n" in identity
    assert "version=1\n" in identity
    assert "node.id=1\n" in identity
    assert (node.data / "bootstrap.checkpoint").read_bytes() == b"feature levels"


def test_an_identity_is_kept(node: Node, checkpoint: Path) -> None:
    first = node.format(checkpoint)
    before = (node.data / "meta.properties").read_text()
    assert node.format(checkpoint) == first
    assert (node.data / "meta.properties").read_text() == before


def test_a_format_that_was_killed_half_way_is_done_again(node: Node, checkpoint: Path) -> None:
    node.data.mkdir(parents=True)
    (node.data / "bootstrap.checkpoint").write_bytes(b"feat")
    (node.data / "meta.properties.new").write_text("vers")
    node.format(checkpoint)
    assert (node.data / "bootstrap.checkpoint").read_bytes() == b"feature levels"
    assert (node.data / "meta.properties").exists()


def test_a_damaged_identity_is_never_replaced_silently(node: Node, checkpoint: Path) -> None:
    node.format(checkpoint)
    (node.data / "meta.properties").write_text("")
    with pytest.raises(LocalKafkaError, match=r"meta\.properties names no cluster\.id"):
        node.format(checkpoint)


def test_every_listener_is_on_loopback(node: Node) -> None:
    node.directory.mkdir()
    node.configure(Ports(20001, 20002), {})
    properties = properties_of(node)
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:20001"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:20002"


def test_the_settings_that_the_rest_of_ringlog_relies_on(node: Node) -> None:
    node.directory.mkdir()
    node.configure(Ports(20001, 20002), {})
    properties = properties_of(node)
    assert properties["auto.create.topics.enable"] == "false"
    assert int(properties["message.max.bytes"]) > 10 * 1024 * 1024
    assert int(properties["socket.request.max.bytes"]) > 2 * int(properties["message.max.bytes"])
    assert int(properties["queued.max.request.bytes"]) >= int(properties["socket.request.max.bytes"])
    assert 1000 <= int(properties["broker.session.timeout.ms"]) <= 2000
    assert int(properties["offsets.retention.minutes"]) > 365 * 24 * 60
    # Kafka holds it in an int.
    assert int(properties["offsets.retention.minutes"]) < 2**31
    assert "log.message.timestamp.type" not in properties


def test_overrides_go_before_ours_and_odd_characters_survive(tmp_path: Path) -> None:
    node = Node(tmp_path / "données\\x")
    node.directory.mkdir()
    node.configure(Ports(20001, 20002), {"message.max.bytes": "1000"})
    properties = properties_of(node)
    assert properties["message.max.bytes"] == "1000"
    assert properties["log.dirs"].endswith("/donn\\u00e9es\\\\x/data")


def test_data_that_another_broker_has_open_is_refused(node: Node, checkpoint: Path) -> None:
    node.format(checkpoint)
    lock = node.data / ".lock"
    lock.touch()
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LocalKafkaError, match=f"another Kafka runs on the data in {node.data}"):
            node.wait_until_unused(patience_s=0.1)
        holder.kill()
    node.wait_until_unused(patience_s=0.1)


def test_a_directory_without_data_is_unused(node: Node) -> None:
    node.wait_until_unused(patience_s=0)
