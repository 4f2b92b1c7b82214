"""`ringlog tail TOPIC`: what lies in a topic, and what comes."""

import asyncio
from collections import deque
from typing import Annotated

import msgspec
import typer

from cli.context import complain, err, explained, load, out
from cli.record_filter import RecordFilter
from cli.record_text import body_text, record_json, record_line
from cli.since import time_us
from consumers.log_reader import LogReader
from consumers.positions import Partition
from consumers.stopping import unless
from runtime.clock import system_clock
from runtime.cluster import connected, named
from runtime.process import EXIT_SETTINGS, run
from runtime.settings import Settings
from schemas.event import Record

LAST = 10
MOST = 10_000  # they are held in memory, to be put in order

# Of a partition's end so many offsets are looked through first; then ever more, until enough is found.
_WIDER = 8

_LOOK_EVERY_S = 0.3


def tail(
    topic: Annotated[str, typer.Argument(help="With RINGLOG_TOPIC_PREFIX or without it.")],
    number: Annotated[
        int | None,
        typer.Option("-n", "--last", min=0, max=MOST, help=f"The last so many. Default: {LAST}; with --from all."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="WHERE", help="beginning, end, 30m, 2h, 3d ago, or 2026-01-31T09:30 in UTC."),
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Of this session; write --session=ID.")] = None,
    caller: Annotated[
        str | None, typer.Option(metavar="WHO", help="Of this caller: a phone number, or a caller's id.")
    ] = None,
    agent: Annotated[str | None, typer.Option(metavar="ID", help="Of this agent; write --agent=ID.")] = None,
    body: Annotated[bool, typer.Option("--body", help="Below each line the whole value.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON a record, whole, for programs.")] = False,
) -> None:
    """Show what lies in a topic, in the order of the broker's time, and follow what comes with --follow.

    Committed records only, without a consumer group: nobody's reading is disturbed. A line shows no phone number and
    nothing that was said; --body and --json show all that is in the record.

    Examples:

        ringlog tail calls.ended -f

        ringlog tail calls.prefetch --from 2h --caller +15551234567 --json
    """
    with explained():
        settings = load()
        asked = _Asked(topic, number, from_, follow, body, json, RecordFilter.of(settings, session, caller, agent))
        raise typer.Exit(run(lambda stop: _tail(settings, asked, stop)))


class _Asked(msgspec.Struct, frozen=True):
    topic: str
    number: int | None
    from_: str | None
    follow: bool
    body: bool
    json: bool
    wanted: RecordFilter

    @property
    def last(self) -> int | None:
        """None means all of it."""
        return LAST if self.number is None and self.from_ is None else self.number


async def _tail(settings: Settings, asked: _Asked, stop: asyncio.Event) -> int:
    async with connected(settings) as cluster:
        try:
            name = named(await cluster.topics(), asked.topic, settings.topic_prefix)
        except LookupError as error:
            complain(str(error))
            return EXIT_SETTINGS
    async with LogReader(settings, name) as log:
        first = await _first(asked, log)
        if (last := asked.last) is not None:
            with err.status(f"Reading {name} ..."):
                found = await unless(stop, _last(log, first, last, asked.wanted))
            for record in found or ():
                _print(record, asked)
        else:
            log.at = first
            await _all(log, asked, stop)
        while asked.follow and not stop.is_set():
            await unless(stop, asyncio.sleep(_LOOK_EVERY_S))
            await log.measure()
            await _all(log, asked, stop)
    return 0


async def _first(asked: _Asked, log: LogReader) -> dict[Partition, int]:
    """Before these offsets nothing is shown."""
    if asked.from_ is None or asked.from_ == "beginning":
        return dict(log.starts)
    if asked.from_ == "end":
        return dict(log.ends)
    return await log.offsets_at(time_us(asked.from_, system_clock(), "--from") // 1000)


async def _all(log: LogReader, asked: _Asked, stop: asyncio.Event) -> None:
    async for records in log.read(log.ends):
        for record in filter(asked.wanted.matches, records):
            _print(record, asked)
        if stop.is_set():
            return


async def _last(log: LogReader, first: dict[Partition, int], number: int, wanted: RecordFilter) -> list[Record]:
    """The last that match, by time: of each partition its own last, searched from its end in ever wider windows."""
    found: dict[Partition, list[Record]] = {partition: [] for partition in log.ends}
    searched = dict(log.ends)
    window = number
    while short := [it for it in searched if len(found[it]) < number and searched[it] > first[it]]:
        begin = {it: max(first[it], searched[it] - window) for it in short}
        log.at.update(begin)
        earlier: dict[Partition, deque[Record]] = {it: deque(maxlen=number) for it in short}
        async for records in log.read({it: searched[it] for it in short}):
            for record in filter(wanted.matches, records):
                earlier[record.topic, record.partition].append(record)
        for it in short:
            found[it] = [*earlier[it], *found[it]][-number:]
        searched |= begin
        window *= _WIDER
    log.at = dict(log.ends)
    everything = [record for records in found.values() for record in records]
    everything.sort(key=lambda record: (record.appended_ms, record.partition, record.offset))
    return everything[-number:] if number else []


def _print(record: Record, asked: _Asked) -> None:
    if asked.json:
        typer.echo(record_json(record))
        return
    out.print(record_line(record), soft_wrap=True)
    if asked.body:
        out.print(body_text(record), markup=False, highlight=False, soft_wrap=True)
