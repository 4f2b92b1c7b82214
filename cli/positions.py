"""`ringlog positions show | set | forget`"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from cli.consumer_processes import counted, processes_of
from cli.context import ask, end_with, err, explained, load, out
from cli.database import opened
from cli.position_forget import forget
from cli.position_plan import Step, Wish, steps_of, wish_of
from cli.terminal import printable
from consumers import letter_book, positions
from consumers.database import read_only
from consumers.lag import BUILDER, OURS, PartitionLag, measure
from consumers.positions import PositionMismatch
from runtime.clock import system_clock
from runtime.cluster import connected
from runtime.process import EXIT_SETTINGS, run
from runtime.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="Where consumers are in their topics, as the database says: look at it, and change it."
)
app.command()(forget)

Consumer = Annotated[str, typer.Argument(help="The consumer's name: billing, or one of your own.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def show(consumer: Consumer, json: Json = False) -> None:
    """Show a consumer's position in each partition, how far the topic reaches, and how many processes run.

    Example:

        ringlog positions show billing
    """
    found: list[PartitionLag] = []
    members = 0

    async def look() -> None:
        nonlocal members
        async with connected(settings) as cluster:
            found.extend(await measure(settings, engine, cluster, [consumer]))
            members = await processes_of(cluster, settings, consumer)

    with explained():
        settings = load()
        with opened(settings) as engine:
            run(lambda _stop: look())
    if not found:
        end_with(f"There is no position of {consumer} in the database, nor anything known of it.")
    if json:
        rows = [
            {name: getattr(it, name) for name in ("topic", "partition", "position", "start", "end")} for it in found
        ]
        typer.echo(msgspec.json.encode({"consumer": consumer, "processes": members, "positions": rows}))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("partition", "position", "first", "end"):
        table.add_column(name, justify="left" if name == "partition" else "right", overflow="fold")
    for it in found:
        table.add_row(f"{it.topic}/{it.partition}", *map(_offset, (it.position, it.start, it.end)), it.trouble or "")
    out.print(table)
    if consumer != BUILDER:
        out.print(f"{counted(members)} in the group.", highlight=False)


@app.command("set")
def set_(
    consumer: Consumer,
    where: Annotated[
        list[str],
        typer.Argument(help="TOPIC/PARTITION=OFFSET, =beginning, =end or =TIME; TOPIC=... for all its partitions."),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    skip: Annotated[bool, typer.Option("--skip", help="With --yes: events may be skipped, too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while the consumer runs.")] = False,
    new: Annotated[
        bool, typer.Option("--new", help="Also for a consumer, or a topic, of which there is no position yet.")
    ] = False,
    json: Json = False,
) -> None:
    """Set where a consumer goes on to read. Backwards, events are handled again; forwards, they are skipped for good.

    Our books don't change when events are handled again. A consumer of your own must bear it, too. A running one is
    fenced, and reads its positions again with its next event. TIME is 30m, 2h, 3d ago, or 2026-01-31T09:30 in UTC.

    Examples:

        ringlog positions set billing calls.ended/3=1042

        ringlog positions set crm calls.ended=beginning --yes
    """
    if consumer == BUILDER:
        end_with(
            "The positions of profiles lie in the state store, in one transaction with the profiles: to read everything"
            " again is `ringlog state rebuild`.",
            EXIT_SETTINGS,
        )
    with explained():
        wishes = [wish_of(it) for it in where]
        settings = load()
        with opened(settings) as engine:
            asked = _Asked(consumer, yes, skip, force, new, json)
            code = run(lambda _stop: _set(settings, engine, asked, wishes))
    raise typer.Exit(code)


class _Asked(msgspec.Struct, frozen=True):
    consumer: str
    yes: bool
    skip: bool
    force: bool
    new: bool
    json: bool


async def _set(settings: Settings, engine: Engine, asked: _Asked, wishes: Sequence[Wish]) -> int:
    async with connected(settings) as cluster:
        cluster_id = await cluster.id()
        try:
            with read_only(engine).connect() as tx:
                before = positions.load(tx, asked.consumer, cluster_id)
                letters = letter_book.unsettled(tx, asked.consumer)
        except PositionMismatch as error:
            end_with(f"Nothing was moved: {error}.")
        if not before and asked.consumer not in OURS and not asked.new:
            end_with(f"There is no position of {asked.consumer!r} in the database. Is the name right? Then say --new.")
        reads = {topic for topic, _ in before}
        reads |= {topic.named(settings.topic_prefix) for topic in OURS.get(asked.consumer, ())}
        members = await processes_of(cluster, settings, asked.consumer)
        if members and not asked.force:
            end_with(f"{asked.consumer} runs ({counted(members)}): stop it first, or say --force.")
        steps = await steps_of(cluster, wishes, before, settings.topic_prefix, system_clock())
    if strange := sorted({step.topic for step in steps} - reads if not asked.new else ()):
        end_with(f"{asked.consumer} reads {', '.join(sorted(reads))}, and not {', '.join(strange)}.", EXIT_SETTINGS)
    if letters and any(step.again for step in steps):
        _remind(asked.consumer, letters)
    _agree(asked, steps)
    with engine.begin() as tx:
        was = positions.put(tx, asked.consumer, cluster_id, {step.place: step.after for step in steps})
        if not asked.force and any(was[step.place] != step.before for step in steps):
            tx.rollback()
            end_with("Nothing was moved: a position has changed meanwhile. Look again with `ringlog positions show`.")
    for step in steps:
        step.before = was[step.place]
    _report(asked, steps)
    return 0


def _remind(consumer: str, letters: int) -> None:
    what = "letter" if letters == 1 else "letters"
    err.print(
        f"{consumer} has {letters} unsettled dead {what}, which stay so even if their events are handled now, and count"
        " among its last events: redrive or discard them first.",
        style="yellow",
        highlight=False,
        soft_wrap=True,
    )


def _agree(asked: _Asked, steps: Sequence[Step]) -> None:
    """Ends the command when nobody agrees."""
    skipped = sum(step.skipped for step in steps)
    if not asked.json:
        out.print(_table(steps))
    if asked.yes and (asked.skip or not skipped):
        return
    if asked.yes:
        end_with(
            f"Nothing was moved: {asked.consumer} would never read {skipped} events. Say --skip as well.", EXIT_SETTINGS
        )
    warning = f"{asked.consumer} will never read {skipped} of these events. " if skipped else ""
    ask(f"{warning}Move the positions?", "Nothing was moved", json=asked.json)


def _report(asked: _Asked, steps: Sequence[Step]) -> None:
    if not asked.json:
        out.print(f"{len(steps)} {'position is' if len(steps) == 1 else 'positions are'} moved.", highlight=False)
        return
    rows = [
        {
            "topic": step.topic,
            "partition": step.partition,
            "before": step.before,
            "after": step.after,
            "again": step.again,
            "skipped": step.skipped,
        }
        for step in steps
    ]
    typer.echo(msgspec.json.encode({"consumer": asked.consumer, "moved": rows}))


def _table(steps: Sequence[Step]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("partition", "is", "becomes", ""):
        table.add_column(name, justify="right" if name in ("is", "becomes") else "left", overflow="fold")
    for step in steps:
        what = f"reads {step.again:,} again" if step.again else f"skips {step.skipped:,}" if step.skipped else ""
        place = printable(f"{step.topic}/{step.partition}")
        table.add_row(Text(place), _offset(step.before), _offset(step.after), Text(what, "red" if step.skipped else ""))
    return table


def _offset(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
