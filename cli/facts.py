"""`ringlog facts`: what you know of a caller, for the agent that will speak with them."""

import asyncio
import csv
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, complain, err, explained, load, out
from cli.publishing import connected_journal
from runtime.clock import system_clock
from runtime.process import run
from runtime.settings import Settings
from schemas.facts import FactError
from schemas.topics import CALLERS_FACTS
from service.facts import FactBook
from service.journal import NotDurable
from state.reader import ProfileReader

app = typer.Typer(no_args_is_help=True, help="Set, show, import and delete what you know of callers.")

NUMBER_COLUMN = "number"
FACTS_AT_ONCE = 2_000  # they share a few acknowledgements; the journal would refuse more than ten thousand at once

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
    facts: Annotated[
        list[str] | None, typer.Argument(help="which; without a name all that the state store here knows")
    ] = None,
    json: Json = False,
) -> None:
    """Delete facts of a caller. Without names: those that the state store here knows, which may lag a moment behind.

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
        rows = _rows(file)
        result = _Import()
        run(lambda stop: _import(settings, rows, result, stop))
    if json:
        print(msgspec.json.encode(result).decode())  # noqa: T201
    else:
        out.print(f"{result.written} facts of {result.callers} callers were written.", highlight=False)
        for row in result.refused:
            complain(f"line {row.line}: {row.reason}")
    if result.stopped_before_line is not None:
        complain(f"Stopped before line {result.stopped_before_line}: what was written stays written.")
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.refused:
        raise typer.Exit(EXIT_FAILED)


class _Row(NamedTuple):
    line: int
    number: str
    facts: dict[str, str]


class _Refused(msgspec.Struct):
    line: int
    reason: str


class _Import(msgspec.Struct):
    """What has become of the rows so far."""

    written: int = 0
    callers: int = 0
    refused: list[_Refused] = []
    stopped_before_line: int | None = None


async def _import(settings: Settings, rows: list[_Row], result: _Import, stop: asyncio.Event) -> None:
    async with _book(settings, stop) as book:
        with _progress() as progress:
            task = progress.add_task("Importing", total=len(rows))
            for part in _parts(rows):
                if stop.is_set():
                    result.stopped_before_line = part[0].line
                    return
                writing = (book.write(row.number, row.facts) for row in part)
                outcomes = await asyncio.gather(*writing, return_exceptions=True)
                for row, outcome in zip(part, outcomes, strict=True):
                    if isinstance(outcome, BaseException):
                        result.refused.append(_Refused(row.line, _reason(outcome)))
                    else:
                        result.written += outcome
                        result.callers += 1
                progress.advance(task, len(part))


def _parts(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Of about `FACTS_AT_ONCE` each, and of whole rows."""
    part: list[_Row] = []
    facts = 0
    for row in rows:
        if part and facts + len(row.facts) > FACTS_AT_ONCE:
            yield part
            part, facts = [], 0
        part.append(row)
        facts += len(row.facts)
    if part:
        yield part


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


def _rows(file: Path) -> list[_Row]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            if NUMBER_COLUMN not in (reader.fieldnames or ()):
                raise typer.BadParameter(
                    f"{file} has no column `{NUMBER_COLUMN}`: its first line must name the columns"
                )
            return [
                _Row(
                    reader.line_num, row.pop(NUMBER_COLUMN) or "", {n: value for n, value in row.items() if n and value}
                )
                for row in reader
            ]
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not UTF-8: save it as CSV in UTF-8") from None
    except (OSError, csv.Error) as error:
        raise typer.BadParameter(f"{file} can't be read as CSV: {error}") from None


def _known(settings: Settings, number: str) -> dict[str, Any]:
    identity = settings.identity()
    e164 = identity.e164(number.strip())
    if e164 is None:
        raise typer.BadParameter("this is no phone number: write it as E.164, such as +15551234567")
    reader = ProfileReader(settings.state_dir)
    profile = reader.get(identity.id_of_number(e164))
    failure = None if reader.available else reader.error
    reader.close()
    if failure is not None:
        complain(
            f"What is known of callers can't be read in {settings.state_dir} ({failure}): is `ringlog up`, or"
            " `ringlog consume profiles`, running with this data directory?"
        )
        raise typer.Exit(EXIT_FAILED)
    return profile.facts if profile else {}


def _write(settings: Settings, number: str, facts: dict[str, Any], json: bool) -> None:
    async def main(stop: asyncio.Event) -> None:
        async with _book(settings, stop) as book:
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
async def _book(settings: Settings, stop: asyncio.Event) -> AsyncIterator[FactBook]:
    """Raises `KafkaUnavailable`, and `typer.Exit` when it is stopped before Kafka was reached."""
    async with connected_journal(settings, CALLERS_FACTS, "The facts", stop) as journal:
        if stop.is_set():
            complain("Stopped: nothing was written.")
            raise typer.Exit(EXIT_INTERRUPTED)
        yield FactBook(journal, settings.identity(), system_clock)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err
    )


def _reason(error: BaseException) -> str:
    return f"{str(error)[:1].upper()}{str(error)[1:]}."
