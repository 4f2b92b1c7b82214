"""The composition root of `ringlog consume NAME`, whether the consumer is ours or somebody's own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from sqlalchemy import Engine, MetaData

from consumers import own
from consumers.billing import Billing
from consumers.call_log import CallLog
from consumers.contract import Consumer
from consumers.database import open_engine, wait_for_schema
from consumers.delivery import delivering
from consumers.effects import TooManyDeadLetters
from consumers.letter_watch import LetterWatch
from consumers.outbox import OutboxRelay
from consumers.overdue import OverdueWatch
from consumers.own_tables import make_tables
from consumers.plans import load_plans
from consumers.positions import PositionMismatch
from consumers.publisher import Publisher
from consumers.recordings import Downloader, Recordings
from consumers.runner import Runner
from consumers.transcripts import Transcripts
from runtime.logs import logger
from runtime.ops import Health, ops_app
from runtime.process import EXIT_STUCK
from runtime.server import HttpServer
from runtime.settings import Settings, SettingsError

# For the batch in flight, the acknowledgement it waits for and leaving the group. Kubernetes kills after thirty.
STOP_DEADLINE_S = 10.0
OPS_GRACE_S = 0.5

Part = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
Make = Callable[[Settings, Engine], tuple[Consumer, list[Part]]]


def _calls(settings: Settings, engine: Engine) -> tuple[Consumer, list[Part]]:
    return CallLog(), [OverdueWatch(engine, settings.longest_call_s).run]


def _billing(settings: Settings, _engine: Engine) -> tuple[Consumer, list[Part]]:
    return Billing(load_plans(settings)), []


def _transcripts(_settings: Settings, _engine: Engine) -> tuple[Consumer, list[Part]]:
    return Transcripts(), []


def _recordings(settings: Settings, engine: Engine) -> tuple[Consumer, list[Part]]:
    return Recordings(), [Downloader(settings, engine).run]


# Name -> the consumer, and what else its process does until it is stopped.
CONSUMERS: dict[str, Make] = {
    "calls": _calls,
    "billing": _billing,
    "transcripts": _transcripts,
    "recordings": _recordings,
}

PROFILES = "profiles"  # no group, no database: it has a process of its own kind


class Found(msgspec.Struct, frozen=True):
    """A consumer by its name, how it is made, and its own tables, if it brings any."""

    name: str
    make: Make
    metadata: MetaData | None = None


def find(which: str, group: str | None = None) -> Found:
    """One of ours, or one of somebody's own: by its import path or entry point, and `group` for a name.

    Raises `SettingsError`, whose sentence says what is wrong.
    """
    if which in CONSUMERS:
        if group not in (None, which):
            raise SettingsError(f"{which} is ringlog's own and keeps its name: drop --group.")
        return Found(which, CONSUMERS[which])
    if not own.is_import_path(which) and own.entry_point(which) is None:
        known = ", ".join(sorted((*CONSUMERS, PROFILES, *own.entry_point_names())))
        raise SettingsError(
            f"there is no consumer {which!r}: name one of {known}, or one of your own as my_module:MyConsumer."
        )
    consumer = own.load(which, group, frozenset((*CONSUMERS, PROFILES)))
    return Found(
        consumer.name, lambda _settings, _engine: (delivering(consumer), []), getattr(consumer, "metadata", None)
    )


async def consume(settings: Settings, which: str, stop: asyncio.Event, group: str | None = None) -> int:
    """Runs one consumer until `stop`. Returns the exit code; raises `SettingsError`, also for one that isn't there."""
    if which == PROFILES:
        from consumers.profiles import build_profiles  # noqa: PLC0415 - a process that needs no store loads none

        await build_profiles(settings, stop)
        return 0
    found = find(which, group)
    settings.bootstrap_servers  # noqa: B018 - says at once that it is missing
    engine = open_engine(settings)
    try:
        consumer, parts = found.make(settings, engine)
        await run_consumer(settings, consumer, engine, stop, parts, found.metadata)
    except PositionMismatch as error:
        logger("consumers.process").error("stopped: going on would make wrong books", reason=str(error))
        return EXIT_STUCK
    except TooManyDeadLetters as error:
        logger("consumers.process").error("stopped: too much of what it reads fails", reason=str(error))
        return EXIT_STUCK
    finally:
        engine.dispose()
    return 0


async def run_consumer(
    settings: Settings,
    consumer: Consumer,
    engine: Engine,
    stop: asyncio.Event,
    parts: list[Part],
    own_tables: MetaData | None = None,
) -> None:
    """A consumer with its outbox, its health and metrics on `settings.ops_port`, and further `parts`."""
    publisher = Publisher(settings)
    relay = OutboxRelay(settings, consumer.name, engine, publisher)
    runner = Runner(settings, consumer, engine, publisher, committed=relay.wake)
    letters = LetterWatch(engine, consumer.name, settings.dead_letter_share)
    has_schema = False

    def health() -> Health:
        if not has_schema:
            return Health(False, {"database": "without the schema of this version; run `ringlog migrate`"})
        ready, reasons = runner.health()
        return Health(ready, reasons | {"dead_letters": letters.health})

    ops = HttpServer(ops_app(health), settings.host, settings.ops_port, name="ops", port_setting="RINGLOG_OPS_PORT")
    await ops.start()
    log = logger("consumers.process")
    log.info("started", consumer=consumer.name, ops_port=ops.port)
    try:
        await wait_for_schema(engine, stop)
        if own_tables is not None:
            await make_tables(engine, own_tables, stop)
        has_schema = True
        await _until_stopped(
            stop, [runner.run(stop), relay.run(stop), letters.run(stop), *(part(stop) for part in parts)]
        )
    finally:
        await publisher.stop()
        await ops.stop(OPS_GRACE_S)
    log.info("stopped", consumer=consumer.name)


async def _until_stopped(stop: asyncio.Event, work: list[Coroutine[Any, Any, None]]) -> None:
    """Runs all of it. When one part fails the others are stopped; whatever doesn't stop in time is left behind."""
    tasks = [asyncio.create_task(part) for part in work]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    done, late = await asyncio.wait(tasks, timeout=STOP_DEADLINE_S)
    for task in late:
        task.cancel()
    if late:
        logger("consumers.process").warning("not all of it stopped in time", parts=len(late))
        await asyncio.wait(late, timeout=1.0)
    await stopping
    for task in done:
        task.result()
