"""Is the broker ready? Asked by one hand-made Kafka request, so that asking needs no client and no event loop."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from runtime.local_kafka.ports import HOST

_METADATA_KEY = 3
# The first version whose answer names the cluster; Kafka 4 still serves it.
_METADATA_VERSION = 2
_CORRELATION = 0x72_69_6E_67
_CLIENT = b"ringlog-probe"
# An answer about no topics is below 200 bytes. Who sends more is no Kafka.
_MAX_ANSWER_BYTES = 65_536

PROBE_DEADLINE_S = 1.0


@dataclass(frozen=True)
class Metadata:
    """What a broker says of its cluster.

    Attributes:
        cluster_id: The cluster's id, by which one tells a broker of one's own from a stranger on its port.
        brokers: ``(node id, host, port)`` of each live broker; a fenced one is not among them.
    """

    cluster_id: str | None
    brokers: tuple[tuple[int, str, int], ...]


def read_metadata(port: int, deadline_s: float = PROBE_DEADLINE_S) -> Metadata:
    """Asks the broker on that port of the loopback interface (Metadata request, version 2, no topics).

    Raises:
        OSError: nobody listens, nobody answers, or the answer is not one.
    """
    body = struct.pack(">hhih", _METADATA_KEY, _METADATA_VERSION, _CORRELATION, len(_CLIENT)) + _CLIENT
    body += struct.pack(">i", 0)
    with socket.create_connection((HOST, port), timeout=deadline_s) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", _receive(connection, 4))
        if not 4 <= size <= _MAX_ANSWER_BYTES:
            raise OSError(f"port {port} answered, but not as Kafka does")
        answer = _receive(connection, size)
    try:
        return _decode(answer)
    except (struct.error, UnicodeDecodeError) as odd:
        raise OSError(f"port {port} answered, but not as Kafka does") from odd


def is_ready(port: int, cluster_id: str) -> bool:
    """Whether the broker of that cluster, and no stranger, listens there and takes part in its cluster."""
    try:
        metadata = read_metadata(port)
    except OSError:
        return False
    return metadata.cluster_id == cluster_id and bool(metadata.brokers)


def _receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise ConnectionError("the broker closed the connection")
        received += chunk
    return bytes(received)


def _decode(answer: bytes) -> Metadata:
    correlation, count = struct.unpack_from(">ii", answer)
    if correlation != _CORRELATION:
        raise struct.error("the answer is to another request")
    position, brokers = 8, []
    for _ in range(count):
        (node,) = struct.unpack_from(">i", answer, position)
        host, position = _string(answer, position + 4)
        (port,) = struct.unpack_from(">i", answer, position)
        _rack, position = _string(answer, position + 4)
        brokers.append((node, host or "", port))
    cluster_id, _position = _string(answer, position)
    return Metadata(cluster_id, tuple(brokers))


def _string(answer: bytes, position: int) -> tuple[str | None, int]:
    (size,) = struct.unpack_from(">h", answer, position)
    position += 2
    if size < 0:
        return None, position
    text, end = answer[position : position + size], position + size
    if len(text) < size:
        raise struct.error("the answer ends early")
    return text.decode(), end
