"""Keeps processes running: starts them in order, restarts the one that ends, stops them in the reverse order."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.child import end, how_it_ended, spawn
from runtime.logs import logger
from runtime.process import EXIT_SETTINGS, EXIT_STUCK
from runtime.threads import in_thread

FIRST_RESTART_S = 0.1  # a process that was killed should be missed as briefly as possible
MAX_RESTART_S = 5.0
SETTLED_S = 20.0  # one that ran for so long didn't fail at its start: the next restart is quick again

LOG_BYTES = 64 * 1024 * 1024  # a log longer than that is put aside at the next start


class ProgramFailed(RuntimeError):
    """A program that can't run; the text is for people."""


@dataclass(frozen=True)
class Program:
    """`ready` returns when it may be used by the next; `prepare` runs before every start, in a thread."""

    name: str
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], Awaitable[bool]] | None = None
    prepare: Callable[[], None] | None = None
    ready_within_s: float = 60.0


@dataclass
class _Running:
    program: Program
    process: asyncio.subprocess.Process
    task: asyncio.Task[None] | None = None
    started: float = field(default_factory=time.monotonic)
    is_stuck: bool = False


class Supervisor:
    """`on_change` is called with the pids, by name, whenever one of them is new or gone for good; `on_stuck` with a
    text for people when a program can't go on, and is left alone while the others do."""

    def __init__(
        self, on_change: Callable[[Mapping[str, int]], None], on_stuck: Callable[[str], None] = lambda _text: None
    ) -> None:
        self._on_change = on_change
        self._on_stuck = on_stuck
        self._running: dict[str, _Running] = {}
        self._stopping = False
        self._failed: asyncio.Future[ProgramFailed] = asyncio.get_running_loop().create_future()
        self._log = logger("runtime.supervisor")

    @property
    def pids(self) -> dict[str, int]:
        return {name: running.process.pid for name, running in self._running.items() if not running.is_stuck}

    async def start(self, *programs: Program) -> None:
        """All at once; returns when all are ready. Raises `ProgramFailed` when one ends before, or takes too long."""
        for program in programs:
            await self._spawn(program)
        for program in programs:
            await self._wait_ready(program)
            running = self._running[program.name]
            running.task = asyncio.create_task(self._keep(running), name=f"keep {program.name}")

    async def failure(self) -> None:
        """Waits, for ever if all goes well. Raises `ProgramFailed` when one ended that can't be started again."""
        raise await asyncio.shield(self._failed)

    async def stop(self, on_stopping: Callable[[str], None] = lambda _name: None) -> None:
        """In the reverse order of their start, each with its grace, then SIGKILL."""
        self._stopping = True
        for name, running in reversed(list(self._running.items())):
            on_stopping(name)
            if running.task is not None:
                running.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running.task
            await end(self._running[name].process)
        self._running.clear()

    async def _spawn(self, program: Program) -> None:
        if program.prepare is not None:
            await in_thread(program.prepare)
        program.log.parent.mkdir(parents=True, exist_ok=True)
        if program.log.exists() and program.log.stat().st_size > LOG_BYTES:
            program.log.replace(program.log.with_name(program.log.name + ".1"))
        with program.log.open("ab") as log:
            process = await spawn(program.command(), program.environment, log)
        former = self._running.get(program.name)
        self._running[program.name] = _Running(program, process, former.task if former else None)
        self._on_change(self.pids)

    async def _wait_ready(self, program: Program) -> None:
        if program.ready is None:
            return
        process = self._running[program.name].process
        deadline = time.monotonic() + program.ready_within_s
        while not await program.ready():
            if process.returncode == EXIT_STUCK:
                return  # whoever keeps it will see
            if process.returncode is not None:
                raise ProgramFailed(f"{program.name} {how_it_ended(process.returncode)}.\n{_tail(program.log)}")
            if time.monotonic() > deadline:
                raise ProgramFailed(
                    f"{program.name} is not ready after {program.ready_within_s:g} s.\n{_tail(program.log)}"
                )
            await asyncio.sleep(0.05)

    async def _keep(self, running: _Running) -> None:
        program, pause_s = running.program, FIRST_RESTART_S
        while True:
            code = await running.process.wait()
            if code == EXIT_SETTINGS:
                self._fail(ProgramFailed(f"{program.name} refuses its settings.\n{_tail(program.log)}"))
                return
            if code == EXIT_STUCK:
                self._leave(running)
                return
            if time.monotonic() - running.started > SETTLED_S:
                pause_s = FIRST_RESTART_S
            how = how_it_ended(code)
            self._log.warning(f"{program.name} {how}, starting it again", in_s=pause_s, log=str(program.log))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, MAX_RESTART_S)
            try:
                await self._spawn(program)
            except Exception as error:
                self._fail(ProgramFailed(f"{program.name} can't be started again: {error}"))
                return
            running = self._running[program.name]

    def _leave(self, running: _Running) -> None:
        program = running.program
        running.is_stuck = True
        self._on_change(self.pids)
        self._log.error(f"{program.name} can't go on, and is not started again", log=str(program.log))
        self._on_stuck(f"{program.name} can't go on, and is not started again; the others do.\n{_tail(program.log)}")

    def _fail(self, error: ProgramFailed) -> None:
        if not self._failed.done():
            self._failed.set_result(error)


def _tail(log: Path, lines: int = 8) -> str:
    """What it said last, so that nobody has to look for the file first."""
    said = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return "\n".join([*said, f"(its whole log: {log})"])
