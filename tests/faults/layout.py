"""Who leads what, as one broker says: asked over a connection of its own, so that a dead one delays nobody."""

import socket
import struct
from typing import BinaryIO, NamedTuple

from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.metadata import MetadataRequest_v1

from tests.faults.ports import HOST

# A broker answers within milliseconds, or is what the test has made of it.
ANSWER_DEADLINE_S = 1.0


class Partition(NamedTuple):
    """Node ids; `leader` is -1 while there is none."""

    topic: str
    number: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        return self.leader >= 0 and len(self.in_sync) == len(self.replicas)

    def __str__(self) -> str:
        return f"{self.topic}-{self.number} (leader {self.leader}, in sync {list(self.in_sync)})"


def ask_layout(port: int) -> list[Partition]:
    """Every partition of every topic. Raises `OSError`."""
    request = MetadataRequest_v1(None)
    message = RequestHeader_v1(request, correlation_id=1, client_id="oracle").encode() + request.encode()
    with socket.create_connection((HOST, port), timeout=ANSWER_DEADLINE_S) as connection:
        connection.sendall(struct.pack(">i", len(message)) + message)
        with connection.makefile("rb") as answer:
            (size,) = struct.unpack(">i", _read(answer, 4))
            said = _read(answer, size)
    response = request.RESPONSE_TYPE.decode(said[4:])  # after the correlation id
    return [
        Partition(topic, number, leader, tuple(replicas), tuple(in_sync))
        for _error, topic, _internal, partitions in response.topics
        for _code, number, leader, replicas, in_sync in partitions
    ]


def _read(answer: BinaryIO, size: int) -> bytes:
    found = answer.read(size)
    if len(found) < size:
        raise ConnectionError("the broker closed the connection")
    return found
