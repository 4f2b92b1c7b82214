"""The supervisor over small real programs: it restarts them, stops them in order, and leaves none behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import psutil
import pytest

from runtime.supervisor import Program, ProgramFailed, Supervisor

ROOT = Path(__file__).parents[2]

SLEEPS = "import time; print('ready', flush=True); time.sleep(600)"


@pytest.fixture
async def pids() -> list[Mapping[str, int]]:
    """What the supervisor has told of its programs."""
    return []


@pytest.fixture
async def supervisor(pids: list[Mapping[str, int]]) -> AsyncIterator[Supervisor]:
    before = set(psutil.Process().children())  # the broker of the other tests is a child of this process, too
    supervisor = Supervisor(lambda now: pids.append(dict(now)))
    yield supervisor
    await supervisor.stop()
    assert set(psutil.Process().children()) - before == set()


def program(folder: Path, name: str, source: str, *, ready_within_s: float = 20.0) -> Program:
    """A Python program, which is ready when it has said so."""
    log = folder / f"{name}.log"

    async def ready() -> bool:
        return "ready" in log.read_text()

    return Program(
        name=name,
        command=lambda: [sys.executable, "-c", source],
        environment=dict(os.environ),
        log=log,
        ready=ready,
        ready_within_s=ready_within_s,
    )


async def gone(pid: int, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_killed_program_is_started_again(
    supervisor: Supervisor, pids: list[Mapping[str, int]], tmp_path: Path
) -> None:
    await supervisor.start(program(tmp_path, "sleeper", SLEEPS))
    seen = {supervisor.pids["sleeper"]}
    for _ in range(2):
        os.kill(supervisor.pids["sleeper"], signal.SIGKILL)
        async with asyncio.timeout(10):
            while supervisor.pids["sleeper"] in seen:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        seen.add(supervisor.pids["sleeper"])
        assert psutil.pid_exists(supervisor.pids["sleeper"])
    assert [told["sleeper"] for told in pids] == list(dict.fromkeys(told["sleeper"] for told in pids))
    assert {told["sleeper"] for told in pids} == seen


async def test_a_program_that_ends_at_once_is_not_started_without_end(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(program(tmp_path, "hasty", "print('ready', flush=True)"))
    await asyncio.sleep(3)
    starts = (tmp_path / "hasty.log").read_text().count("ready")
    assert 2 <= starts <= 7  # after 0.1, 0.2, 0.4, 0.8, 1.6 s


async def test_wrong_settings_stop_everything_with_what_was_said(supervisor: Supervisor, tmp_path: Path) -> None:
    said = "RINGLOG_PORT is wrong"
    source = f"import sys, time; print('ready', flush=True); time.sleep(0.3); print('{said}'); sys.exit(2)"
    await supervisor.start(program(tmp_path, "refusing", source))
    async with asyncio.timeout(10):
        with pytest.raises(ProgramFailed, match=f"(?s)refusing refuses its settings.*{said}.*refusing.log"):
            await supervisor.failure()


@pytest.mark.parametrize("is_ready", [True, False])
async def test_a_program_that_can_t_go_on_is_left_alone_and_the_others_run_on(
    pids: list[Mapping[str, int]], tmp_path: Path, is_ready: bool
) -> None:
    told: list[str] = []
    supervisor = Supervisor(lambda now: pids.append(dict(now)), told.append)
    source = (
        f"import sys, time; print({'ready' if is_ready else 'no'!r}); print('why'); sys.stdout.flush(); sys.exit(3)"
    )
    try:
        await supervisor.start(program(tmp_path, "stuck", source), program(tmp_path, "other", SLEEPS))
        async with asyncio.timeout(10):
            while not told:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert "stuck can't go on, and is not started again; the others do.\n" in told[0]
        assert "why\n" in told[0]
        assert pids[-1] == supervisor.pids == {"other": supervisor.pids["other"]}
        await asyncio.sleep(1.0)
        assert (tmp_path / "stuck.log").read_text().count("why") == 1
        assert len(told) == 1
        assert psutil.pid_exists(supervisor.pids["other"])
    finally:
        await supervisor.stop()


@pytest.mark.parametrize("code", [1, 2])
async def test_a_program_that_ends_before_it_is_ready_is_a_failure(
    supervisor: Supervisor, tmp_path: Path, code: int
) -> None:
    source = f"import sys; print('what was wrong'); sys.exit({code})"
    with pytest.raises(ProgramFailed, match=f"(?s)failing ended with exit code {code}.*what was wrong"):
        await supervisor.start(program(tmp_path, "failing", source))


async def test_a_program_that_is_never_ready_is_a_failure(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match=r"slow is not ready after 0\.5 s"):
        await supervisor.start(program(tmp_path, "slow", "import time; time.sleep(600)", ready_within_s=0.5))


async def test_programs_stop_in_the_reverse_order_each_before_the_next(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    source = (
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(0.2)\n"
        f"    open({str(order)!r}, 'a').write(NAME + ' ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    for name in ("one", "two", "three"):
        await supervisor.start(program(tmp_path, name, f"NAME = {name!r}\n{source}"))
    told: list[str] = []
    await supervisor.stop(told.append)
    assert told == ["three", "two", "one"]
    assert order.read_text().split() == ["three", "two", "one"]
    assert supervisor.pids == {}


async def test_a_paused_program_stops_too(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(program(tmp_path, "sleeper", SLEEPS))
    pid = supervisor.pids["sleeper"]
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - started < 5
    await gone(pid)


async def test_to_stop_while_a_program_waits_for_its_restart_leaves_none(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    await supervisor.start(program(tmp_path, "hasty", "print('ready', flush=True)"))
    await asyncio.sleep(1.0)
    await supervisor.stop()
    starts = (tmp_path / "hasty.log").read_text().count("ready")
    await asyncio.sleep(2.5)
    assert (tmp_path / "hasty.log").read_text().count("ready") == starts


def test_the_programs_of_a_killed_supervisor_die_with_it(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, sys
from pathlib import Path
from runtime.supervisor import Program, Supervisor

async def main():
    supervisor = Supervisor(lambda _pids: None)
    for name in ("one", "two"):
        source = "import time; time.sleep(600)"
        command = [sys.executable, "-c", source]
        log = Path({str(tmp_path)!r}) / name
        await supervisor.start(Program(name, lambda: command, dict(os.environ), log))
    print(*supervisor.pids.values(), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    children = [int(pid) for pid in process.stdout.readline().split()]
    assert len(children) == 2
    assert all(psutil.pid_exists(pid) for pid in children)
    process.kill()
    process.wait()
    process.stdout.close()
    for pid in children:
        asyncio.run(gone(pid))
