"""Processor time, cores, and how busy others keep the machine. From Linux's /proc."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

QUIET_CORES = 0.25  # others may take this much of the machine before a measurement is called disturbed
_LOOK_S = 0.5


def used_s(pid: int | Literal["self"], *, ended: bool = False) -> float:
    """Processor time of all of the process's threads, user and system, in seconds; `ended`: and of its children that
    have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended else 13])) / _TICKS_PER_S


def children(pid: int) -> list[int]:
    """Those that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def resident_bytes(pid: int) -> int:
    """Memory that the process has to itself, without the pages of files that it shares with others."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def machine_s() -> float:
    """Processor time of everybody on all cores, in seconds, with what the hypervisor took away."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


class Bystanders:
    """How many cores processes that are none of ours have kept busy since it was made."""

    def __init__(self, ours: Iterable[int | Literal["self"]]) -> None:
        self._ours = tuple(ours)
        self._since = time.monotonic()
        self._before = self._foreign_s()

    def cores(self) -> float:
        return max(0.0, (self._foreign_s() - self._before) / (time.monotonic() - self._since))

    def cores_without(self, ours_s: float) -> float:
        """The same, less the seconds of processes of ours that have ended meanwhile."""
        elapsed = time.monotonic() - self._since
        return max(0.0, (self._foreign_s() - self._before - ours_s) / elapsed)

    def _foreign_s(self) -> float:
        return machine_s() - sum(used_s(pid) for pid in self._ours)


def wait_for_quiet(ours: Iterable[int], patience_s: float) -> None:
    """Returns when others leave the machine alone, or when patience ends."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        bystanders = Bystanders(ours)
        time.sleep(_LOOK_S)
        if bystanders.cores() < QUIET_CORES:
            return


def cores() -> tuple[int, int]:
    """`(load, server)`: the server has one for itself; load and broker share the other. Raises `RuntimeError`."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise RuntimeError("one core is too few: the server under test needs one for itself")
    return usable[0], usable[-1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started inside run there for ever: a child inherits it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
