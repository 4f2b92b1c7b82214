"""`ringlog reconcile`: asks the provider for the calls whose end did not arrive."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, complain, err, explained, join, load, out
from cli.database import opened
from cli.publishing import connected_journal
from cli.reconciler import ledger
from cli.reconciler.millis_api import MillisApi, Stopped
from cli.reconciler.reconciliation import Reconciliation, Tally
from cli.since import seconds_of, since_us
from consumers.database import read_only
from runtime.clock import system_clock
from runtime.cluster import ends_of
from runtime.logs import logger
from runtime.metrics import RECONCILED_AT
from runtime.ops import Health, ops_app
from runtime.process import run
from runtime.server import HttpServer
from runtime.settings import Settings, SettingsError
from runtime.threads import in_thread
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH
from service.ended_call import EndedCalls

FIRST_TIME_S = 86_400.0  # how far the list is read back when it never was before, and nobody says

# A pass reads the list again from a little before the last one ended: the provider may know a call later than it began
# by as long as the call took, and some minutes more.
OVERLAP_S = 900.0

# What the log of calls has not read yet would be taken for missing.
CATCH_UP_S = 30.0

BROKEN_IN_A_ROW = 3  # passes of a loop; then somebody has to look, and readiness says so


class Behind(ConnectionError):
    """`ringlog consume calls` has not read what there is; one sentence."""


def reconcile(
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="From when on the provider's list is read: 2h, 3d, or 2026-01-31. Otherwise from where the last pass"
            " ended; the first time, a day.",
        ),
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Again and again, with this pause: 5m. Otherwise once.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="Requests a second, at the most.")] = 5.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs; with --every a line a pass.")] = False,
) -> None:
    """Ask the provider for calls whose end did not arrive, and publish what was missed, marked as recovered.

    First the provider's list of calls is read, for those of which no webhook came at all; then each overdue call is
    asked for (RINGLOG_LONGEST_CALL_S), and those whose cost is still unknown. Doing it again changes nothing. Needs
    RINGLOG_MILLIS_API_KEY, Kafka, the database, a running `ringlog consume calls`, and the settings of the service
    that say who a caller is. With --every it stays, with health and metrics on RINGLOG_OPS_PORT, until SIGTERM; a pass
    that is broken off is logged, and the next one goes on from there.

    Examples:

        ringlog reconcile

        ringlog reconcile --since 2026-01-01 --rate 20

        ringlog reconcile --every 5m
    """
    with explained():
        from_us = since_us(since, system_clock())
        if from_us is not None and from_us > system_clock():
            raise SettingsError(f"--since is wrong: {since} is in the future.")
        if every is None:
            _once(load(), from_us, rate, json)
        else:
            pause_s = seconds_of(every, "--every")
            settings = join("reconcile")
            run(lambda stop: _Loop(settings, rate, pause_s, json).run(from_us, stop))


def _once(settings: Settings, from_us: int | None, rate: float, json: bool) -> None:
    tally: Tally | None = None

    async def main(stop: asyncio.Event) -> int:
        nonlocal tally
        with _progress() as show:
            async with _reconciliation(settings, rate, stop, lambda: show(tally)) as (reconciliation, engine):
                tally = reconciliation.tally
                try:
                    await reconciliation.run(await _from(settings, engine, from_us))
                except Stopped:
                    return EXIT_INTERRUPTED
        return 0

    try:
        code = run(main)
    finally:  # what was recovered before something failed is recovered
        if tally is not None:
            typer.echo(msgspec.json.encode(tally)) if json else out.print(_sentence(tally), highlight=False)
    if code:
        complain("Stopped before the end; run it again, and it goes on.")
        raise typer.Exit(code)
    if tally is not None and (tally.unreadable or tally.failed):
        complain("Some calls could not be had or read: the log above says which, and why.")
        raise typer.Exit(EXIT_FAILED)


class _Loop:
    """Passes with a pause between them; what breaks one off is told, and the next one goes on."""

    def __init__(self, settings: Settings, rate: float, pause_s: float, json: bool) -> None:
        self._settings = settings
        self._rate = rate
        self._pause_s = pause_s
        self._json = json
        self._broken = 0
        self._said: dict[str, Any] = {"last": "none yet"}
        self._log = logger("cli.reconcile")

    async def run(self, from_us: int | None, stop: asyncio.Event) -> None:
        settings = self._settings
        ops = HttpServer(
            ops_app(self._health), settings.host, settings.ops_port, name="ops", port_setting="RINGLOG_OPS_PORT"
        )
        await ops.start()
        self._log.info("started", every_s=self._pause_s, ops_port=ops.port)
        try:
            while not stop.is_set():
                if await self._pass(from_us, stop):
                    from_us = None  # the next one begins where this one ended
                with suppress(TimeoutError):  # the usual end of a wait
                    await asyncio.wait_for(stop.wait(), self._pause_s)
        finally:
            await ops.stop(0.5)

    async def _pass(self, from_us: int | None, stop: asyncio.Event) -> bool:
        """Whether it was complete. Raises `SettingsError`: to try again would not mend it."""
        tally = Tally()
        try:
            async with _reconciliation(self._settings, self._rate, stop) as (reconciliation, engine):
                tally = reconciliation.tally
                await reconciliation.run(await _from(self._settings, engine, from_us))
        except Stopped:
            return False
        except ConnectionError as error:  # the API, Kafka, the database, or a log of calls that is behind
            self._broken += 1
            self._said["last"] = f"broken off: {error}"
            self._log.warning("a pass was broken off", reason=str(error), **msgspec.structs.asdict(tally))
            return False
        finally:  # what was recovered before a pass was broken off is recovered
            if self._json:
                typer.echo(msgspec.json.encode(tally))
        self._broken = 0
        self._said["last"] = "complete"
        RECONCILED_AT.set_to_current_time()
        self._log.info("a pass is complete", **msgspec.structs.asdict(tally))
        return True

    def _health(self) -> Health:
        return Health(self._broken < BROKEN_IN_A_ROW, {**self._said, "broken_in_a_row": self._broken})


@asynccontextmanager
async def _reconciliation(
    settings: Settings, rate: float, stop: asyncio.Event, step: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[Reconciliation, Engine]]:
    """Raises `SettingsError`, `KafkaUnavailable`, `DatabaseUnavailable` and `Behind`, also for what is done inside."""
    key = settings.millis_api_key.get_secret_value() if settings.millis_api_key else None
    async with MillisApi(settings.millis_api_url, key, rate, stop) as api:
        ended_calls = EndedCalls(settings.identity(), system_clock, settings.max_request_bytes)
        with opened(settings) as engine:
            async with connected_journal(settings, CALLS_ENDED, "What is recovered", stop) as journal:
                await _caught_up(settings, engine, stop)
                yield (
                    Reconciliation(api, engine, journal, ended_calls, settings.longest_call_s, system_clock, step),
                    engine,
                )


async def _caught_up(settings: Settings, engine: Engine, stop: asyncio.Event) -> None:
    """Raises `Behind` when the log of calls does not read in time what there is now."""
    ends = await ends_of(settings, [CALLS_PREFETCH, CALLS_ENDED])

    def behind() -> int:
        with read_only(engine).connect() as tx:
            return ledger.events_behind(tx, ends)

    deadline = asyncio.get_running_loop().time() + CATCH_UP_S
    while (left := await in_thread(behind)) and not stop.is_set():
        if asyncio.get_running_loop().time() > deadline:
            raise Behind(
                f"The log of calls has {left:,} events to read, and what it has not read would be taken for missing:"
                " is `ringlog consume calls` running? Try again when it has caught up."
            )
        await asyncio.sleep(0.2)


async def _from(settings: Settings, engine: Engine, from_us: int | None) -> int:
    """From when on the list is to be read, in microseconds."""
    if from_us is not None:
        return from_us

    def last() -> int | None:
        with read_only(engine).connect() as tx:
            return ledger.read_until(tx)

    until_us = await in_thread(last)
    if until_us is None:
        return system_clock() - round(FIRST_TIME_S * 1_000_000)
    return until_us - round((settings.longest_call_s + OVERLAP_S) * 1_000_000)


@contextmanager
def _progress() -> Iterator[Callable[[Tally | None], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task("asking the provider", total=None)
        yield lambda tally: progress.update(task, description=_sentence(tally or Tally()))


def _sentence(tally: Tally) -> str:
    counts = msgspec.structs.asdict(tally)
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count or word == "recovered")
