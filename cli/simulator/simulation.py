"""A simulation from its beginning to its end: the one place where its parts are put together."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.running import Running
from cli.simulator.book_reader import BookReader
from cli.simulator.call_logs import CallLogs
from cli.simulator.delivery import Delivery, DeliveryError, Target
from cli.simulator.expectation import Expectation, expectation_of
from cli.simulator.plan import Plan, Wish
from cli.simulator.report import Report
from cli.simulator.sound_server import SoundServer
from cli.simulator.stored_sound import StoredSounds
from cli.simulator.tally import Tally
from cli.simulator.verification import Verdict, Verification
from runtime.settings import load_settings

# A service that is being restarted on a busy machine is back within this time; after it, nothing listens there.
_LISTENS_WITHIN_S = 30.0


class Doing(msgspec.Struct, frozen=True):
    """What to do with a plan. `rate` is calls a second, 0 as fast as answers come; `patience_s` bounds the wait."""

    rate: float
    deliver: bool
    verify: bool
    serve: bool
    patience_s: float


async def simulate(
    wish: Wish, doing: Doing, running: Running | None, target: Target | None, tell: Callable[[Report], None]
) -> bool:
    """Whether all is as it must be; `tell` is called before the sounds are served on.

    `target` may be None when there is nothing to deliver or to verify, `running` when there is nothing to verify.
    Raises `DeliveryError`, `ShareError`, `SoundServerError` and `SettingsError`, each with one sentence.
    """
    console = Console(stderr=True)
    call_logs = CallLogs()
    server = SoundServer(running.simulator if running else None, call_logs.routes())
    await server.start()
    try:
        if running is None or running.simulator is None:
            _say(console, f"Recordings are served at {server.url}, which ringlog may refuse to fetch from.")
        plan = Plan(wish, server.url)
        call_logs.know(plan)
        report = Report(plan, Expectation(), Tally())
        if target is not None:
            async with target.open() as http:
                await _play(report, doing, running, target, http, console)
            tell(report)
        if doing.serve:
            _say(console, f"Serving sounds at {server.url}/sounds/<name>.wav until Ctrl-C.")
            _say(console, f"Serving the provider's API of these calls: RINGLOG_MILLIS_API_URL={server.url}")
            await _interrupted()
    finally:
        await server.stop()
    return report.is_good


async def _play(
    report: Report,
    doing: Doing,
    running: Running | None,
    target: Target,
    http: aiohttp.ClientSession,
    console: Console,
) -> None:
    plan, tally = report.plan, report.tally
    if doing.deliver and len(plan):
        await _listening(target)
        with _progress(console, "delivered", len(plan)) as step:
            await Delivery(target, http, tally).all(plan, doing.rate, lambda: step(None))
    report.expected = expectation_of(plan, tally.undelivered)
    if doing.verify and running is not None:
        report.verdict = await _verified(report, doing, running, target, http, console)


async def _verified(
    report: Report, doing: Doing, running: Running, target: Target, http: aiohttp.ClientSession, console: Console
) -> Verdict:
    settings = load_settings(**running.overrides())
    reader = BookReader.open(settings)
    try:
        verification = Verification(
            report.plan,
            report.expected,
            report.tally.undelivered,
            # What had to be sent again says that a service was away, and one that was killed took events with it.
            # Of a delivery before this run nobody knows whether it was so.
            all_announced=doing.deliver and report.tally.retries == 0,
            reader=reader,
            sounds=StoredSounds(settings.recordings),
            target=target,
            http=http,
            settings=settings,
        )
        with _progress(console, "in the books", len(report.plan)) as step:
            return await verification.run(doing.patience_s, step)
    finally:
        reader.close()


async def _listening(target: Target) -> None:
    """Raises `DeliveryError` when nothing listens: better said at once than after every call was tried for minutes."""
    deadline = asyncio.get_running_loop().time() + _LISTENS_WITHIN_S
    while True:
        try:
            _, writer = await asyncio.open_connection(target.host, target.port)
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise DeliveryError(
                    f"Nothing listens at {target.base} ({error}); run `ringlog up`, or name another one with --url."
                ) from None
            await asyncio.sleep(0.5)
        else:
            writer.close()
            return


async def _interrupted() -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Callable[[int | None], None]]:
    """Gives a function that sets how many are done, or adds one when given None."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task) if done is None else bar.update(task, completed=done)


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
