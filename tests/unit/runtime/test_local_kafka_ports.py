"""Which ports an embedded broker takes, and which it remembers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runtime.local_kafka.ports import HOST, Ports, choose_ports, is_free


@contextmanager
def a_stranger_on(port: int) -> Iterator[int]:
    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
        yield listener.getsockname()[1]


def free_port() -> int:
    with a_stranger_on(0) as port:
        return port


def test_the_preferred_port_is_taken_when_free(tmp_path: Path) -> None:
    preferred = free_port()
    assert choose_ports(preferred, tmp_path / "ports.json").broker == preferred


def test_a_preferred_port_that_listens_is_left_alone(tmp_path: Path) -> None:
    with a_stranger_on(0) as taken:
        assert not is_free(taken)
        ports = choose_ports(taken, tmp_path / "ports.json")
    assert len({taken, ports.broker, ports.controller}) == 3


def test_drawn_ports_are_below_the_ephemeral_range(tmp_path: Path) -> None:
    ports = choose_ports(None, tmp_path / "ports.json")
    assert 20_000 <= ports.broker < 32_000
    assert 20_000 <= ports.controller < 32_000


def test_ports_are_the_same_at_the_next_start(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = choose_ports(None, memory)
    assert choose_ports(None, memory) == first


def test_a_start_that_could_not_have_its_preferred_port_keeps_the_one_it_got(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    with a_stranger_on(0) as taken:
        first = choose_ports(taken, memory)
        assert choose_ports(taken, memory) == first


def test_remembered_ports_that_somebody_took_are_replaced_and_forgotten(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = choose_ports(None, memory)
    with a_stranger_on(first.broker), a_stranger_on(first.controller):
        second = choose_ports(None, memory)
    assert {first.broker, first.controller}.isdisjoint({second.broker, second.controller})
    assert choose_ports(None, memory) == second


def test_a_damaged_memory_is_no_obstacle(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    for damaged in ("", "{", '{"broker": 1}', "[]", "\x00"):
        memory.write_text(damaged)
        assert isinstance(choose_ports(None, memory), Ports)


def test_connections_of_a_dead_broker_do_not_take_its_port() -> None:
    with a_stranger_on(0) as port, socket.create_connection((HOST, port)):
        assert not is_free(port)
    # The listener closed first, so its end is the one that lingers.
    assert is_free(port)
