"""Load over HTTP/1.1: many connections, each sends its next request when it has its answer.

Raw sockets and epoll: half of the processor time a request of what the barest server under test needs, so that the
server is what is full. It never sleeps: who sends an answer to a process that sleeps pays for waking it, on a virtual
machine some microseconds, and a slow server pays at each answer, a fast one at few.
"""

import gc
import random
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

ANSWER_DEADLINE_S = 30.0  # an answer that comes later is a server that hangs

_RECEIVE_BYTES = 64 * 1024
_LENGTH = b"content-length: "


class LoadError(RuntimeError):
    """The server closed a connection, or did not answer."""


@dataclass(frozen=True)
class Load:
    """`seconds` to the last answer; latencies in seconds, sorted; `failed` are the answers other than 200."""

    seconds: float
    latencies: list[float]
    failed: int

    @property
    def requests(self) -> int:
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def percentile_ms(self, share: float) -> float:
        return self.latencies[min(self.requests - 1, int(self.requests * share))] * 1000


class _Connection:
    __slots__ = ("_socket", "received", "recv", "send", "sent_at")

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send = self._socket.sendall
        self.recv = self._socket.recv
        self.received = b""
        self.sent_at = 0.0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float, dice: random.Random) -> Load:
    """Requests drawn at random for so many seconds; then what is under way is awaited. Raises `LoadError`."""
    open_ = [_Connection(port) for _ in range(connections)]
    gc.disable()  # a collection in the middle would be seen as the server's latency
    try:
        return _drive(open_, requests, seconds, dice)
    finally:
        gc.enable()
        for connection in open_:
            connection.close()


def _drive(open_: list[_Connection], requests: Sequence[bytes], seconds: float, dice: random.Random) -> Load:
    poll = select.epoll()
    by_fd = {}
    for connection in open_:
        poll.register(connection.fileno(), select.EPOLLIN)
        by_fd[connection.fileno()] = connection
    clock, pick, count = time.perf_counter, dice.random, len(requests)
    latencies: list[float] = []
    failed, waiting = 0, len(open_)
    started = now = clock()
    until = started + seconds
    for connection in open_:
        connection.sent_at = clock()
        connection.send(requests[int(pick() * count)])
    while waiting:
        ready = poll.poll(0)
        if not ready:
            if clock() - now > ANSWER_DEADLINE_S:
                raise LoadError(f"{waiting} requests got no answer within {ANSWER_DEADLINE_S:g} s")
            continue
        for fd, _events in ready:
            connection = by_fd[fd]
            received = connection.recv(_RECEIVE_BYTES)
            if not received:
                raise LoadError("the server closed a connection")
            if connection.received:
                received = connection.received + received
            if not is_whole(received):
                connection.received = received
                continue
            connection.received = b""
            now = clock()
            latencies.append(now - connection.sent_at)
            if not received.startswith(b"HTTP/1.1 200"):
                failed += 1
            if now < until:
                connection.sent_at = now
                connection.send(requests[int(pick() * count)])
            else:
                waiting -= 1
    poll.close()
    latencies.sort()
    return Load(now - started, latencies, failed)


def is_whole(received: bytes) -> bool:
    """Whether an answer's head, and a body as long as the head says, are there."""
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = received.find(_LENGTH, 0, head) + len(_LENGTH)
    return len(received) >= head + 4 + int(received[at : received.index(b"\r", at)])
