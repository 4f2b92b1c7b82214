"""`ringlog facts`: what you know of a caller, for the agent that will speak with them."""

import asyncio
import csv
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.context import EXIT_FAILED, complain, err, explained, load, out
from runtime.clock import system_clock
from runtime.kafka import KafkaUnavailable
from runtime.process import run
from runtime.settings import Settings
from schemas.facts import FactError
from schemas.topics import CALLERS_FACTS
from service.facts import FactBook
from service.journal import Journal, NotDurable
from state.reader import ProfileReader

app = typer.Typer(no_args_is_help=True, help="Set, show, import and delete what you know of callers.")

CONNECT_WITHIN_S = 15.0

NUMBER_COLUMN = "number"
ROWS_AT_ONCE = 500  # they share a few acknowledgements; more would only wait in memory

Number = Annotated[str, typer.Argument(help="a phone number, such as +15551234567")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("set")
def set_(
    number: Number,
    facts: Annotated[list[str], typer.Argument(help="key=text, or key:=json for numbers, lists and the like")],
    json: Json = False,
) -> None:
    """Set facts of a caller. Others that are known stay.

    Example:

        ringlog facts set +15551234567 tier=gold balance:=12.5
    """
    with explained():
        _write(load(), number, dict(_pair(text) for text in facts), json)


@app.command()
def delete(
    number: Number,
    facts: Annotated[list[str] | None, typer.Argument(help="which; without a name all of them")] = None,
    json: Json = False,
) -> None:
    """Delete facts of a caller.

    Example:

        ringlog facts delete +15551234567 tier
    """
    with explained():
        settings = load()
        names = facts or list(_known(settings, number))
        _write(settings, number, dict.fromkeys(names), json)


@app.command()
def show(number: Number, json: Json = False) -> None:
    """Show the facts of a caller, as the state store here knows them.

    Example:

        ringlog facts show +15551234567 --json
    """
    with explained():
        facts = _known(load(), number)
        if json:
            print(msgspec.json.encode(facts).decode())  # noqa: T201 - for programs: rich would wrap it
            return
        if not facts:
            err.print("Nothing is known of this caller.")
            raise typer.Exit(EXIT_FAILED)
        for name, value in sorted(facts.items()):
            out.print(f"{name} = {msgspec.json.encode(value).decode()}", markup=False)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help=f"CSV; its column `{NUMBER_COLUMN}` names the caller", exists=True)],
    json: Json = False,
) -> None:
    """Import facts from a CSV file: a row a caller, a column a fact. Blank cells change nothing.

    A row that can't be used is reported with its line, and the rest goes on; the exit code is then 1.

    Example:

        ringlog facts import customers.csv
    """
    with explained():
        settings = load()
        rows = list(_rows(file))
        written, refused = 0, []

        async def main(_stop: asyncio.Event) -> None:
            nonlocal written
            async with _book(settings) as book:
                with _progress() as progress:
                    task = progress.add_task("Importing", total=len(rows))
                    for start in range(0, len(rows), ROWS_AT_ONCE):
                        part = rows[start : start + ROWS_AT_ONCE]
                        outcomes = await asyncio.gather(
                            *(book.write(number, facts) for _, number, facts in part), return_exceptions=True
                        )
                        for (line, _, _), outcome in zip(part, outcomes, strict=True):
                            if isinstance(outcome, BaseException):
                                refused.append({"line": line, "reason": _reason(outcome)})
                            else:
                                written += outcome
                        progress.advance(task, len(part))

        run(main)
        if json:
            print(msgspec.json.encode({"written": written, "refused": refused}).decode())  # noqa: T201
        else:
            out.print(f"{written} facts of {len(rows) - len(refused)} callers were written.", highlight=False)
            for row in refused:
                complain(f"line {row['line']}: {row['reason']}")
        if refused:
            raise typer.Exit(EXIT_FAILED)


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} must be written key=text or key:=json")
    if not name.endswith(":"):
        return name, value
    try:
        return name[:-1], msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"what follows {name}= is not JSON ({error}); for text write {name[:-1]}=") from None


def _rows(file: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Line, number and facts of each row."""
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened)
        if NUMBER_COLUMN not in (reader.fieldnames or ()):
            raise typer.BadParameter(f"{file} has no column `{NUMBER_COLUMN}`: its first line must name the columns")
        for row in reader:
            number = row.pop(NUMBER_COLUMN) or ""
            yield reader.line_num, number, {name: value for name, value in row.items() if name and value}


def _known(settings: Settings, number: str) -> dict[str, Any]:
    identity = settings.identity()
    e164 = identity.e164(number.strip())
    if e164 is None:
        raise typer.BadParameter("this is no phone number: write it as E.164, such as +15551234567")
    reader = ProfileReader(settings.state_dir)
    reader.refresh()
    profile = reader.get(identity.id_of_number(e164))
    reader.close()
    return profile.facts if profile else {}


def _write(settings: Settings, number: str, facts: dict[str, Any], json: bool) -> None:
    async def main(_stop: asyncio.Event) -> None:
        async with _book(settings) as book:
            try:
                written = await book.write(number, facts)
            except (FactError, NotDurable) as error:
                complain(_reason(error))
                raise typer.Exit(EXIT_FAILED) from None
            if json:
                print(msgspec.json.encode({"written": written}).decode())  # noqa: T201
            else:
                out.print(f"{written} {'fact was' if written == 1 else 'facts were'} written.", highlight=False)

    run(main)


@asynccontextmanager
async def _book(settings: Settings) -> AsyncIterator[FactBook]:
    """Raises `KafkaUnavailable`."""
    journal, stop = Journal(settings), asyncio.Event()
    running = asyncio.create_task(journal.run((CALLERS_FACTS,), stop))
    try:
        deadline = asyncio.get_running_loop().time() + CONNECT_WITHIN_S
        while not journal.connected:
            if running.done() or asyncio.get_running_loop().time() > deadline:
                raise KafkaUnavailable(f"The facts can't be written: {journal.why_not}.")
            await asyncio.sleep(0.02)
        yield FactBook(journal, settings.identity(), system_clock)
    finally:
        stop.set()
        await running


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err
    )


def _reason(error: BaseException) -> str:
    return f"{str(error)[:1].upper()}{str(error)[1:]}."
