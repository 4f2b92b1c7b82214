"""`ringlog reconcile`: asks the provider for the calls whose end did not arrive."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Annotated

import msgspec
import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, begin, complain, err, explained, load, out
from cli.database import opened
from cli.publishing import connected_journal
from cli.reconciler.millis_api import ApiUnavailable, MillisApi
from cli.reconciler.reconciliation import Reconciliation, Tally
from cli.since import seconds_of, since_us
from consumers.database import DatabaseUnavailable
from runtime.clock import system_clock
from runtime.kafka import KafkaUnavailable
from runtime.logs import logger
from runtime.ops import Health, ops_app
from runtime.process import run
from runtime.server import HttpServer
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED
from service.ended_call import EndedCalls
from service.journal import NotDurable

# Between two passes of a loop the list is asked for again from a little before the last pass: the provider's log may
# know a call later than it began by as long as the call took, and some minutes more.
OVERLAP_S = 900.0


def reconcile(
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From when on the provider's list is read: 2h, 3d, or 2026-01-31.")
    ] = "1d",
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Again and again, with this pause: 5m. Otherwise once.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="Requests a second, at the most.")] = 5.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Ask the provider for calls whose end did not arrive, and publish what was missed, marked as recovered.

    First each overdue call is asked for (RINGLOG_LONGEST_CALL_S), then the provider's list of calls is read, for those
    of which no webhook came at all. Doing it again changes nothing. Needs RINGLOG_MILLIS_API_KEY, Kafka, the database,
    and `ringlog consume calls`. With --every it stays, with health and metrics on RINGLOG_OPS_PORT, until SIGTERM.

    Examples:

        ringlog reconcile

        ringlog reconcile --since 2026-01-01 --rate 20

        ringlog reconcile --every 5m
    """
    with explained():
        pause_s = None if every is None else seconds_of(every, "--every")
        from_us = since_us(since, system_clock())
        assert from_us is not None  # noqa: S101 - it has a default
        if pause_s is None:
            _once(load(), from_us, rate, json)
        else:
            settings = begin("reconcile")
            run(lambda stop: _again_and_again(settings, from_us, pause_s, rate, stop))


def _once(settings: Settings, from_us: int, rate: float, json: bool) -> None:
    tally, stopped = Tally(), False

    async def main(stop: asyncio.Event) -> None:
        nonlocal stopped
        async with _reconciliation(settings, rate, stop) as reconciliation:
            with _progress(tally) as step:
                await reconciliation.overdue(tally, step, stop)
                await reconciliation.window(from_us, system_clock(), tally, step)
        stopped = stop.is_set()

    try:
        run(main)
    finally:  # what was recovered before something failed is recovered
        typer.echo(msgspec.json.encode(tally)) if json else out.print(_sentence(tally), highlight=False)
    if stopped:
        complain("Stopped before the end; run it again, and it goes on.")
        raise typer.Exit(EXIT_INTERRUPTED)
    if tally.unreadable:
        raise typer.Exit(EXIT_FAILED)


async def _again_and_again(settings: Settings, from_us: int, pause_s: float, rate: float, stop: asyncio.Event) -> None:
    log, said = logger("cli.reconcile"), {"last": "none yet"}
    ops = HttpServer(
        ops_app(lambda: Health(True, dict(said))),
        settings.host,
        settings.ops_port,
        name="ops",
        port_setting="RINGLOG_OPS_PORT",
    )
    await ops.start()
    try:
        while not stop.is_set():
            began_us, tally = system_clock(), Tally()
            try:
                async with _reconciliation(settings, rate, stop) as reconciliation:
                    await reconciliation.overdue(tally, lambda: None, stop)
                    await reconciliation.window(from_us, began_us, tally, lambda: None)
            except (ApiUnavailable, DatabaseUnavailable, KafkaUnavailable, NotDurable) as error:
                log.warning("a pass was broken off", reason=str(error), **msgspec.structs.asdict(tally))
                said["last"] = f"broken off: {error}"
            else:
                log.info("a pass has ended", **msgspec.structs.asdict(tally))
                said["last"] = "complete"
                from_us = began_us - round((settings.longest_call_s + OVERLAP_S) * 1_000_000)
            with suppress(TimeoutError):  # the usual end of a wait
                await asyncio.wait_for(stop.wait(), pause_s)
    finally:
        await ops.stop(0.5)


@asynccontextmanager
async def _reconciliation(settings: Settings, rate: float, stop: asyncio.Event) -> AsyncIterator[Reconciliation]:
    """Raises `SettingsError`, `KafkaUnavailable` and `DatabaseUnavailable`, also for what is done inside."""
    key = settings.millis_api_key.get_secret_value() if settings.millis_api_key else None
    async with MillisApi(settings.millis_api_url, key, rate, stop) as api:
        ended_calls = EndedCalls(settings.identity(), system_clock, settings.max_request_bytes)
        with opened(settings) as engine:
            async with connected_journal(settings, CALLS_ENDED, "What is recovered", stop) as journal:
                yield Reconciliation(api, engine, journal, ended_calls, settings.longest_call_s, system_clock)


@contextmanager
def _progress(tally: Tally) -> Iterator[Callable[[], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task("asking the provider", total=None)
        yield lambda: progress.update(task, description=_sentence(tally))


def _sentence(tally: Tally) -> str:
    counts = msgspec.structs.asdict(tally)
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count or word == "recovered")
