"""How a process runs: its signals and its exit code."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def process(main: str) -> "subprocess.Popen[str]":
    script = f"import asyncio, sys\nfrom runtime.process import run\n{main}\nsys.exit(run(main))\n"
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.parametrize(("returned", "code"), [("None", 0), ("0", 0), ("3", 3)])
def test_what_main_returns_is_the_exit_code(returned: str, code: int) -> None:
    ended = process(f"async def main(stop): return {returned}")
    ended.communicate(timeout=20)
    assert ended.returncode == code


def test_an_exception_is_a_traceback_and_exit_code_1() -> None:
    ended = process("async def main(stop): raise OSError('broken')")
    _, said = ended.communicate(timeout=20)
    assert ended.returncode == 1
    assert "OSError: broken" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_interrupts_nothing(number: signal.Signals) -> None:
    running = process(
        "async def main(stop):\n"
        "    print('ready', flush=True)\n"
        "    await stop.wait()\n"
        "    await asyncio.sleep(0.2)\n"
        "    print('in order', flush=True)\n"
        "    return 4"
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(number)
    running.send_signal(number)
    said, _ = running.communicate(timeout=20)
    assert (said, running.returncode) == ("in order\n", 4)
