"""Which two ports of the loopback interface a broker listens on, and their memory."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

HOST = "127.0.0.1"

# Below Linux's ephemeral range (32768 and up): no client's own end takes the port while its broker is down.
_LOWEST, _HIGHEST = 20_000, 31_999
_DRAWS = 200

# A broker whose supervisor was killed may hold its port for the last moments of its own end.
RELEASE_PATIENCE_S = 2.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Ports:
    """``broker`` is for clients; ``controller`` is Kafka's own, for the Raft quorum of one."""

    broker: int
    controller: int


def choose_ports(preferred: int | None, memory: Path) -> Ports:
    """Ports that are free now: the preferred one, else the remembered ones, else any; and remembers them.

    The controller's port has no preference of its own: clients never see it.

    Raises:
        OSError: no free port was found in 200 draws, or the memory can't be written.
    """
    remembered = _remembered(memory)
    broker = next(
        port
        for port in _candidates(preferred, remembered.broker if remembered else None)
        if is_free(port, RELEASE_PATIENCE_S if remembered and port == remembered.broker else 0)
    )
    controller = next(
        port for port in _candidates(remembered.controller if remembered else None) if port != broker and is_free(port)
    )
    ports = Ports(broker, controller)
    if ports != remembered:
        write_atomically(memory, json.dumps(asdict(ports)) + "\n")
    return ports


def is_free(port: int, patience_s: float = 0) -> bool:
    """Whether a server could listen on the port of the loopback interface, now or within ``patience_s``.

    Asks as the JVM does, with SO_REUSEADDR: connections of a killed broker that linger in TIME_WAIT do not
    matter, a listening socket does.
    """
    deadline = time.monotonic() + patience_s
    while True:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                return True
            except OSError:
                if time.monotonic() >= deadline:
                    return False
        time.sleep(_POLL_S)


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small file in one step: a reader, or a start after kill -9, sees the old or the new one."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    beside.replace(path)


def _candidates(*wished: int | None) -> Iterator[int]:
    yield from (port for port in wished if port is not None)
    # Not for secrets: two brokers that start at once should merely not draw the same row of ports.
    draw = random.SystemRandom()
    for _ in range(_DRAWS):
        yield draw.randint(_LOWEST, _HIGHEST)
    raise OSError(f"no free port between {_LOWEST} and {_HIGHEST} on {HOST}")


def _remembered(memory: Path) -> Ports | None:
    try:
        return Ports(**json.loads(memory.read_text()))
    except (OSError, ValueError, TypeError):
        # None yet, or damaged: any ports will do, the data does not depend on them.
        return None
