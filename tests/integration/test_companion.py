"""What runs beside a process, over small real programs: it comes back whatever it ends with, and is not left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from runtime.companion import Companion
from runtime.scheduling import SLICE_NS
from tests.building import eventually
from tests.edge import metric
from tests.slices import slice_ns

ROOT = Path(__file__).parents[2]


def saying(folder: Path, then: str) -> str:
    """A program that leaves its pid in the folder, a line each time that it is started."""
    return f"import os, sys, time\nopen({str(folder / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')\n{then}"


def pids(folder: Path) -> list[int]:
    file = folder / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def ends() -> float:
    return metric("ringlog_companion_ends_total", program="beside") or 0


@contextlib.asynccontextmanager
async def beside(*command: str) -> AsyncIterator[Companion]:
    """Stopped afterwards; then no child of it is left."""
    before = set(psutil.Process().children())  # the broker of the other tests is a child of this process, too
    stop = asyncio.Event()
    companion = Companion("beside", command, dict(os.environ))
    running = asyncio.create_task(companion.run(stop))
    try:
        yield companion
        assert not running.done()
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
    assert companion.state == "stopped"
    assert set(psutil.Process().children()) - before == set()


async def test_one_that_is_killed_is_started_again_and_counted(tmp_path: Path) -> None:
    counted = ends()
    async with beside(sys.executable, "-c", saying(tmp_path, "time.sleep(600)")) as companion:
        for starts in (1, 2):
            await eventually(lambda starts=starts: len(pids(tmp_path)) == starts and companion.state == "running")  # type: ignore[misc]
            os.kill(pids(tmp_path)[-1], signal.SIGKILL)
        await eventually(lambda: len(pids(tmp_path)) == 3)
        assert ends() == counted + 2


@pytest.mark.parametrize("code", [0, 1, 2, 3])
async def test_whatever_it_ends_with_it_is_started_again_and_its_state_says_why(tmp_path: Path, code: int) -> None:
    async with beside(sys.executable, "-c", saying(tmp_path, f"sys.exit({code})")) as companion:
        await eventually(lambda: len(pids(tmp_path)) == 3)
        await eventually(lambda: companion.state == f"ended with exit code {code}, starting it again")


async def test_it_is_not_started_without_end(tmp_path: Path) -> None:
    async with beside(sys.executable, "-c", saying(tmp_path, "")):
        await asyncio.sleep(3)
        assert 1 <= len(pids(tmp_path)) <= 6  # after 0.1, 0.2, 0.4, 0.8, 1.6 s


async def test_one_that_can_t_be_started_ends_nothing_and_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    async with beside(str(program)) as companion:
        await eventually(lambda: companion.state.startswith("can't be started"))
        program.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec sleep 600\n")
        program.chmod(0o755)
        await eventually(lambda: len(pids(tmp_path)) == 1 and companion.state == "running")


async def test_one_that_is_paused_stops_too(tmp_path: Path) -> None:
    async with beside(sys.executable, "-c", saying(tmp_path, "time.sleep(600)")):
        await eventually(lambda: pids(tmp_path) != [])
        os.kill(pids(tmp_path)[0], signal.SIGSTOP)
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 10  # by SIGTERM, not after its grace


BRINGS = """
import asyncio, os, sys
from runtime.companion import Companion
from runtime.process import run
from runtime.scheduling import ask_for_short_slices

ask_for_short_slices()
companion = Companion("beside", [sys.executable, "-c", sys.argv[1]], dict(os.environ))
run(companion.run)
"""


@pytest.fixture
def bringing(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process like the service's, with short slices, which brings one that sleeps."""
    command = [sys.executable, "-c", BRINGS, saying(tmp_path, "time.sleep(600)")]
    with subprocess.Popen(command, cwd=ROOT) as process:
        yield process
        process.kill()


async def test_it_dies_with_a_process_that_is_killed(bringing: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    await eventually(lambda: pids(tmp_path) != [])
    child = psutil.Process(pids(tmp_path)[0])
    bringing.kill()
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.skipif(not slice_ns(os.getpid()), reason="this kernel has no slices to ask for (Linux 6.12 has)")
async def test_it_has_ordinary_slices_beside_one_that_has_short_ones(
    bringing: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    await eventually(lambda: pids(tmp_path) != [])
    assert slice_ns(bringing.pid) == SLICE_NS
    assert slice_ns(pids(tmp_path)[0]) == slice_ns(os.getpid()) != SLICE_NS
