"""Ports of the loopback interface that stay ours while nobody listens on them: a killed process returns to its own."""

import random
import socket

HOST = "127.0.0.1"

# Below Linux's ephemeral range: no client's own end takes a port while its server is down.
_LOWEST, _HIGHEST = 20_000, 31_999
_DRAWS = 500


def free_ports(count: int) -> list[int]:
    """That many different ports on which a server could listen now. Raises `OSError`."""
    dice = random.SystemRandom()  # two runs that begin at once must not draw the same row
    found: list[int] = []
    for _ in range(_DRAWS):
        if len(found) == count:
            return found
        port = dice.randint(_LOWEST, _HIGHEST)
        if port not in found and _is_free(port):
            found.append(port)
    raise OSError(f"there are no {count} free ports between {_LOWEST} and {_HIGHEST} on {HOST}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
