"""Who asks for short slices gets them, and keeps everything else."""

import os
import subprocess
import sys

import pytest

from runtime.scheduling import SLICE_NS
from tests.slices import slice_ns

ASKS = """
import os, threading
from runtime.scheduling import ask_for_short_slices
from tests.slices import slice_ns
os.nice(7)
assert ask_for_short_slices()
started = []
thread = threading.Thread(target=lambda: started.append(slice_ns(threading.get_native_id())))
thread.start()
thread.join()
print(slice_ns(os.getpid()), started[0], os.nice(0))
"""


@pytest.mark.skipif(not slice_ns(os.getpid()), reason="this kernel has no slices to ask for (Linux 6.12 has)")
def test_a_process_and_its_threads_have_short_slices_and_the_priority_that_they_had() -> None:
    said = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True, timeout=60).stdout
    mine, of_thread, nice = map(int, said.split())
    assert (mine, of_thread) == (SLICE_NS, SLICE_NS)
    assert nice == os.nice(0) + 7


def test_nothing_is_known_of_a_process_that_is_not_there() -> None:
    assert slice_ns(2**22 + 1) is None
