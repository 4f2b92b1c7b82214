"""How soon Linux lets a process in that has woken up.

Whoever runs has a slice of some milliseconds, and nobody else is let in before it is over, or before the next tick,
whatever their priorities are: a request that takes half a millisecond may wait for four. Who asks for shorter slices
than those of the one that runs is let in at once, and gets no more of the processor for it. Source: the kernel's
documentation of EEVDF; since Linux 6.12 `sched_runtime` of `sched_setattr(2)` is the slice of an ordinary process.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable

SLICE_NS = 100_000  # the shortest there is

# Nobody's C library has these by name before 2024. Source: the kernel's tables of system calls.
_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}  # sched_setattr, sched_getattr

_ORDINARY = (os.SCHED_OTHER, os.SCHED_BATCH) if sys.platform == "linux" else ()


class _Attributes(ctypes.Structure):
    """`struct sched_attr` in its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def ask_for_short_slices() -> bool:
    """For this thread, and for those that it starts from now on. False where that can't be: then all is as it was.

    An older kernel says yes, and does nothing.
    """
    calls = _calls()
    if calls is None:
        return False
    attributes = _attributes(os.getpid())
    if attributes is None or attributes.policy not in _ORDINARY:
        return False
    attributes.runtime_ns = SLICE_NS
    return bool(_kernel(calls[0], 0, ctypes.byref(attributes), 0) == 0)


def ordinary_slices() -> Callable[[], None]:
    """A ``preexec_fn``: the child has slices as everybody has, whatever its parent asked for. It would inherit them."""
    calls, attributes = _calls(), _attributes(os.getpid())
    if calls is None or attributes is None or attributes.policy not in _ORDINARY:
        return lambda: None
    attributes.runtime_ns = 0
    # Made and loaded before the fork, as all that a child of a process with threads may use.
    set_attributes, number, pointer = ctypes.CDLL(None).syscall, calls[0], ctypes.byref(attributes)

    def in_child() -> None:
        set_attributes(number, 0, pointer, 0)

    return in_child


def _attributes(pid: int) -> _Attributes | None:
    calls, found = _calls(), _Attributes()
    if calls is None or _kernel(calls[1], pid, ctypes.byref(found), ctypes.sizeof(found), 0) != 0:
        return None
    return found


def _calls() -> tuple[int, int] | None:
    return _CALLS.get(platform.machine()) if sys.platform == "linux" else None


def _kernel(*arguments: object) -> int:
    return int(ctypes.CDLL(None).syscall(*arguments))
