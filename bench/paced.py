"""Load at a rate that doesn't depend on the answers: each request has its time, and is late when its server is."""

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from random import Random

from bench.load import ANSWER_DEADLINE_S, Load, LoadError, is_whole
from runtime.scheduling import ask_for_short_slices

CONNECTIONS = 32  # more than are under way at once, unless the server hangs
_RECEIVE_BYTES = 64 * 1024


def pace(port: int, requests: Sequence[bytes], per_second: float, seconds: float, dice: Random) -> Load:
    """Latencies are from when a request was due, not from when it could be sent. Raises `LoadError`."""
    free = deque(socket.create_connection(("127.0.0.1", port), ANSWER_DEADLINE_S) for _ in range(CONNECTIONS))
    everyone = list(free)
    for connection in everyone:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    gc.disable()  # a collection in the middle would be seen as the server's latency,
    ask_for_short_slices()  # and so would be what this process waits for its core: callers are on other machines
    try:
        return _pace(free, requests, per_second, seconds, dice)
    finally:
        gc.enable()
        for connection in everyone:
            connection.close()


def _pace(
    free: deque[socket.socket], requests: Sequence[bytes], per_second: float, seconds: float, dice: Random
) -> Load:
    poll, clock = select.epoll(), time.perf_counter
    for connection in free:
        poll.register(connection.fileno(), select.EPOLLIN)
    under_way: dict[int, tuple[socket.socket, float, list[bytes]]] = {}
    latencies: list[float] = []
    failed, sent, total = 0, 0, round(per_second * seconds)
    started = answered = clock()
    while sent < total or under_way:
        now = clock()
        while sent < total and free and started + sent / per_second <= now:
            connection = free.popleft()
            under_way[connection.fileno()] = (connection, started + sent / per_second, [])
            connection.send(dice.choice(requests))
            sent += 1
        if under_way and now - answered > ANSWER_DEADLINE_S:
            raise LoadError(f"{len(under_way)} requests got no answer within {ANSWER_DEADLINE_S:g} s")
        due = started + sent / per_second - now if sent < total and free else 1.0
        for fd, _events in poll.poll(max(0.0, due)):
            connection, due_at, parts = under_way[fd]
            received = connection.recv(_RECEIVE_BYTES)
            if not received:
                raise LoadError("the server closed a connection")
            parts.append(received)
            if not is_whole(b"".join(parts)):
                continue
            answered = clock()
            latencies.append(answered - due_at)
            failed += not parts[0].startswith(b"HTTP/1.1 200")
            del under_way[fd]
            free.append(connection)
    poll.close()
    latencies.sort()
    return Load(answered - started, latencies, failed)
