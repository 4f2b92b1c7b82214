"""`ringlog lag`: how far each consumer is behind."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import msgspec
import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from cli.context import EXIT_FAILED, complain, explained, load, out
from cli.database import opened
from cli.terminal import printable
from consumers.lag import PartitionLag, measure
from consumers.stopping import unless
from runtime.clock import system_clock
from runtime.cluster import connected
from runtime.process import run
from runtime.settings import Settings
from schemas.event import rfc3339

WATCH_EVERY_S = 2.0

Measured = list[PartitionLag]


def lag(
    consumers: Annotated[list[str] | None, typer.Argument(help="Only these; without any, all.")] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="A row for each partition.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Measure again every two seconds, until Ctrl-C.")] = False,
    fail_above: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Exit code 1 when a consumer has more than N unread, or nobody can know."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs; with --watch one line each.")] = False,
) -> None:
    """Show how many events each consumer has still to read, and how old the oldest of them is.

    Consumers of your own are there as soon as they have a position in the database. `profiles` is the builder whose
    state store lies on this machine.

    Examples:

        ringlog lag --watch

        ringlog lag billing --fail-above 1000
    """
    asked = _Asked(consumers or [], partitions, watch, json)
    with explained():
        settings = load()
        with opened(settings) as engine:
            code = run(lambda stop: _measure(settings, engine, asked, stop))
    if not code and fail_above is not None and any(_exceeds(it, fail_above) for it in asked.by_consumer.values()):
        code = EXIT_FAILED
    raise typer.Exit(code)


class _Asked(msgspec.Struct):
    """What to show, and what was measured last."""

    only: list[str]
    partitions: bool
    watch: bool
    json: bool
    measured: list[PartitionLag] = []

    @property
    def by_consumer(self) -> dict[str, Measured]:
        found: dict[str, Measured] = {}
        for it in self.measured:
            found.setdefault(it.consumer, []).append(it)
        return found


async def _measure(settings: Settings, engine: Engine, asked: _Asked, stop: asyncio.Event) -> int:
    async with connected(settings) as cluster:
        asked.measured = await measure(settings, engine, cluster, asked.only)
        if unknown := sorted(set(asked.only) - asked.by_consumer.keys()):
            complain(f"There is no position of {', '.join(unknown)} in the database, nor anything known of it.")
            return EXIT_FAILED
        if not asked.watch:
            _print(asked)
            return 0
        with Live(console=out, auto_refresh=False) if not asked.json else nullcontext() as live:
            while not stop.is_set():
                if live is None:
                    typer.echo(_json(asked))
                else:
                    live.update(_table(asked), refresh=True)
                await unless(stop, asyncio.sleep(WATCH_EVERY_S))
                asked.measured = await unless(stop, measure(settings, engine, cluster, asked.only)) or asked.measured
    return 0


def _print(asked: _Asked) -> None:
    if asked.json:
        typer.echo(_json(asked))
    else:
        out.print(_table(asked))


def _total(theirs: Measured) -> int | None:
    """None when it is unknown of one: what is known of the others is no total."""
    lags = [it.lag for it in theirs]
    return None if None in lags else sum(lag for lag in lags if lag is not None)


def _exceeds(theirs: Measured, limit: int) -> bool:
    total = _total(theirs)
    return total is None or total > limit


def _oldest(theirs: Measured) -> int | None:
    return min((it.oldest_unread_ms for it in theirs if it.oldest_unread_ms is not None), default=None)


def _json(asked: _Asked) -> bytes:
    """Times are RFC 3339; `lag` is null when nobody can know it."""
    return msgspec.json.encode(
        [
            {
                "consumer": consumer,
                "lag": _total(theirs),
                "oldest_unread_at": _time(_oldest(theirs)),
                "partitions": [_row_json(it) for it in theirs],
            }
            for consumer, theirs in asked.by_consumer.items()
        ]
    )


def _row_json(it: PartitionLag) -> dict[str, Any]:
    row = msgspec.structs.asdict(it)
    del row["consumer"], row["oldest_unread_ms"]
    return row | {"oldest_unread_at": _time(it.oldest_unread_ms)}


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else rfc3339(time_ms * 1000)


def _table(asked: _Asked) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("consumer", overflow="fold")
    if asked.partitions:
        for name in ("partition", "position", "end"):
            table.add_column(name, justify="left" if name == "partition" else "right", no_wrap=True)
    table.add_column("unread", justify="right", no_wrap=True)
    table.add_column("oldest", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    now_ms = system_clock() // 1000
    for consumer, theirs in asked.by_consumer.items():
        if not asked.partitions:
            troubles = sorted({it.trouble for it in theirs if it.trouble})
            said = f"{troubles[0]}{', and more' if len(troubles) > 1 else ''}" if troubles else ""
            _add(table, [consumer], _total(theirs), _age(_oldest(theirs), now_ms), said)
            continue
        for it in theirs:
            place = (f"{it.topic}/{it.partition}", _number(it.position), _number(it.end))
            _add(table, [consumer, *place], it.lag, _age(it.oldest_unread_ms, now_ms), it.trouble or "")
    return table


def _add(table: Table, first: Sequence[str], lag: int | None, age: str, trouble: str) -> None:
    cells = [*first, "?" if lag is None else _number(lag), age, trouble]
    table.add_row(*(Text(printable(cell)) for cell in cells), style="" if lag == 0 else "yellow")


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _age(time_ms: int | None, now_ms: int) -> str:
    if time_ms is None:
        return ""
    seconds = max(0, now_ms - time_ms) // 1000
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * unit:
            return f"{seconds // unit}{name}"
    return f"{seconds}s"
