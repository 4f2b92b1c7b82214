"""`ringlog dead-letters list | show | redrive | discard`"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import Engine

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, ask, complain, end_with, err, explained, load, out
from cli.database import opened
from cli.letter_choice import Wanted, chosen, named
from cli.letter_owner import owner
from cli.letter_text import letter_json, letter_lines, row_json, table_of
from cli.since import since_us
from cli.terminal import printable
from consumers import letter_book, outbox
from consumers.database import read_only
from consumers.dead_letters import event_of
from consumers.letter_book import Letter, place
from consumers.process import Found, find
from consumers.redrive import Failed, Redrive, Result, read
from runtime.clock import system_clock
from runtime.process import run
from runtime.settings import Settings
from schemas.event import Record

app = typer.Typer(
    no_args_is_help=True,
    help="Events that a consumer could not handle: look at them and, when it is mended, have them handled.",
)

Consumer = Annotated[str, typer.Argument(help="Whose: calls, billing, transcripts, recordings, or your own.")]
Group = Annotated[str | None, typer.Option(help="The name of your own, when you say it as my_module:MyConsumer.")]
Which = Annotated[
    list[str] | None, typer.Argument(help="[TOPIC/]PARTITION/OFFSET as the list says it, or an event's id.")
]
All = Annotated[bool, typer.Option("--all", help="All that nobody has settled.")]
Error = Annotated[str | None, typer.Option(metavar="CLASS", help="Those of this error, such as KeyError.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Those given up since: 30m, 2h, 3d, or 2026-01-31T09:30 in UTC.")
]
Session = Annotated[str | None, typer.Option(metavar="ID", help="Those of this session; write --session=ID.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_COMPLAINTS = 20  # more would push everything else off the screen


@app.command("list")
def list_(
    consumer: Consumer,
    all_: Annotated[bool, typer.Option("--all", help="Those that were redriven or discarded, too.")] = False,
    error: Error = None,
    since: Since = None,
    session: Session = None,
    group: Group = None,
    json: Json = False,
) -> None:
    """List what a consumer has given up and nobody has settled. Needs the database, and not Kafka.

    Example:

        ringlog dead-letters list billing --error KeyError --since 2h
    """
    with explained():
        settings = load()
        time = since_us(since, system_clock())
        with opened(settings) as engine, read_only(engine).connect() as tx:
            consumer = owner(engine, consumer, group)
            letters = letter_book.find(tx, consumer, settled=all_, error=error, since_us=time, session_id=session)
    if json:
        typer.echo(msgspec.json.encode([row_json(letter) for letter in letters]))
    elif letters:
        out.print(table_of(letters, settings.topic_prefix))
        err.print(_counted(letters), markup=False, highlight=False)
    else:
        err.print(f"{consumer} has no such dead letters.", highlight=False)


@app.command()
def show(
    consumer: Consumer,
    which: Annotated[str, typer.Argument(help="[TOPIC/]PARTITION/OFFSET as the list says it, or an event's id.")],
    group: Group = None,
    json: Json = False,
) -> None:
    """Show one dead letter: the error, where the event lies, its headers and its body.

    The body is the event as it came: it may hold personal data, and so may what the error says.

    Example:

        ringlog dead-letters show billing 3/1042
    """
    with explained():
        settings = load()
        with opened(settings) as engine:
            consumer = owner(engine, consumer, group)
            letters = named(engine, settings, consumer, [which])
        if len(letters) > 1:
            end_with(f"There are {len(letters)} dead letters of {which}: name one of {', '.join(map(place, letters))}.")
        found: list[Record | None] = []
        run(lambda _stop: _look_up(settings, consumer, letters, found))
    record = found[0]
    if record is None or (event := event_of(record)) is None:
        end_with(
            f"The dead letter of {place(letters[0])} is not in Kafka: its topic has forgotten it, or was made anew."
        )
    if json:
        typer.echo(msgspec.json.encode(letter_json(letters[0], record, event)))
        return
    for line in letter_lines(letters[0], record, event):
        out.print(printable(line), markup=False, highlight=False, soft_wrap=True)


@app.command()
def redrive(
    consumer: Consumer,
    which: Which = None,
    all_: All = False,
    error: Error = None,
    since: Since = None,
    session: Session = None,
    group: Group = None,
    discarded: Annotated[
        bool, typer.Option("--discarded", help="Those that were discarded, instead of those nobody has settled.")
    ] = False,
    json: Json = False,
) -> None:
    """Have events handled by this consumer alone, in this process: run it where the mended version is installed.

    Each is handled once, in one transaction with the note of it, whether or not the consumer runs at the same time.
    One that fails again stays where it is, and the exit code is 1. Derived events leave with the running consumer.

    Examples:

        ringlog dead-letters redrive billing 3/1042

        ringlog dead-letters redrive billing --error KeyError

        ringlog dead-letters redrive my_package:CrmSync --group crm --all
    """
    wanted = Wanted(which or [], all_, error, since, session, discarded)
    result = _Redriven()
    with explained():
        settings = load()
        with opened(settings) as engine:
            name = owner(engine, consumer, group)
            letters = chosen(engine, settings, name, wanted)
            found = find(consumer, group)
            try:
                run(lambda stop: _redrive(settings, found, engine, letters, result, stop))
            finally:  # what was redriven stays so, whatever went wrong then
                _report(name, engine, result, json)
    if result.stopped:
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.failed:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def discard(
    consumer: Consumer,
    which: Which = None,
    all_: All = False,
    error: Error = None,
    since: Since = None,
    session: Session = None,
    group: Group = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Settle dead letters without handling their events. The events stay in Kafka, and may be redriven by name.

    Before it discards those that are not named it says how many, and asks.

    Examples:

        ringlog dead-letters discard billing 3/1042

        ringlog dead-letters discard billing --error KeyError --yes
    """
    wanted = Wanted(which or [], all_, error, since, session)
    with explained():
        settings = load()
        with opened(settings) as engine:
            consumer = owner(engine, consumer, group)
            letters = chosen(engine, settings, consumer, wanted)
            if letters and not wanted.which and not yes:
                question = f"{consumer} has {_counted(letters)}, and will handle none of them. Discard them?"
                ask(question, "Nothing was discarded", json=json)
            with engine.begin() as tx:
                now = system_clock()
                done = sum(letter_book.settle(tx, consumer, letter, "discarded", now) for letter in letters)
    if json:
        typer.echo(msgspec.json.encode({"discarded": done, "already": len(letters) - done}))
    else:
        _say(f"{done} discarded", f"{len(letters) - done} settled before")


class _Redriven(msgspec.Struct):
    """What has become of the letters so far."""

    redriven: int = 0
    already: int = 0
    failed: list[Failed] = []
    stopped: bool = False

    def add(self, result: Result) -> None:
        if isinstance(result, Failed):
            self.failed.append(result)
        elif result == "redriven":
            self.redriven += 1
        else:
            self.already += 1


def _counted(letters: Sequence[Letter]) -> str:
    errors = Counter(letter.error for letter in letters).most_common()
    return ", ".join(f"{count} {error}" for error, count in errors)


async def _look_up(settings: Settings, consumer: str, letters: Sequence[Letter], found: list[Record | None]) -> None:
    async for _letter, record in read(settings, consumer, letters):
        found.append(record)


async def _redrive(
    settings: Settings, found: Found, engine: Engine, letters: Sequence[Letter], result: _Redriven, stop: asyncio.Event
) -> None:
    redrive = Redrive(found.make(settings, engine)[0], engine)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    async with aclosing(read(settings, found.name, letters)) as records:
        with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
            task = progress.add_task("Redriving", total=len(letters))
            async for letter, record in records:
                if stop.is_set():
                    result.stopped = True
                    return
                result.add(await redrive.one(letter, record and event_of(record), stop))
                progress.advance(task)


def _report(consumer: str, engine: Engine, result: _Redriven, json: bool) -> None:
    if json:
        failed = [{"place": place(it.letter), "error": it.error, "where": it.where} for it in result.failed]
        typer.echo(msgspec.json.encode({**msgspec.structs.asdict(result), "failed": failed}))
        return
    for it in result.failed[:_COMPLAINTS]:
        complain(f"{place(it.letter)} failed again: {it.error} ({it.where}). It stays where it is.")
    if (more := len(result.failed) - _COMPLAINTS) > 0:
        complain(f"{more} more failed; --json says all of them.")
    _say(
        f"{result.redriven} redriven",
        f"{result.already} redriven before",
        f"{len(result.failed)} failed" if result.failed else "",
        "stopped before the end" if result.stopped else "",
    )
    if result.redriven and (waiting := outbox.waiting(engine, consumer)):
        err.print(
            f"{waiting} derived events wait for a running `ringlog consume {consumer}`, which publishes them.",
            highlight=False,
            soft_wrap=True,
        )


def _say(done: str, *rest: str) -> None:
    more = [it for it in rest if it and not it.startswith("0 ")]
    out.print(f"{', '.join([done, *more])}.", highlight=False, soft_wrap=True)
