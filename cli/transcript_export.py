"""`ringlog transcripts export`: many transcripts, one after the other, into a file, a folder or another program."""

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import Engine

from cli.context import EXIT_FAILED, complain, err, explained, load, out
from cli.database import opened
from cli.since import since_us, until_us
from cli.transcript_formats import Csv, Format, JsonLines, Markdown
from cli.whole_file import whole_file
from consumers.conversations import PAGE, Choice, Conversation, count, page, snapshots
from consumers.recordings.object_name import safe_part
from runtime.clock import system_clock
from runtime.process import EXIT_SETTINGS
from runtime.settings import SettingsError


class _Name(StrEnum):
    markdown = "markdown"
    jsonl = "jsonl"
    csv = "csv"


_FORMATS: dict[_Name, type[Format]] = {_Name.markdown: Markdown, _Name.jsonl: JsonLines, _Name.csv: Csv}


def export(
    format_: Annotated[_Name, typer.Option("--format", help="jsonl has everything; the others are for people.")],
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Calls that began since: 2h, 3d, 2026-01-31T09:30 in UTC, or a day."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Calls that began before, said as for --since; a day is in it."),
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Calls of this agent only.")] = None,
    output: Annotated[
        str | None,
        typer.Option(help="A file; with markdown also a folder, for one file a call. Without it: standard output."),
    ] = None,
) -> None:
    """Write transcripts as Markdown, JSON Lines or CSV, each function call where it belongs.

    A file gets its name when it is whole, and replaces one that had it.

    Examples:

        ringlog transcripts export --format jsonl --since 2026-11-01 --until 2026-11-30 --output november.jsonl

        ringlog transcripts export --format csv --agent -OmNNf485Na8Bw82RSfz | gzip > agent.csv.gz

        ringlog transcripts export --format markdown --output transcripts/
    """
    style = _FORMATS[format_]()
    into_folder = output is not None and _is_folder(output, style)
    with explained():
        choice = _choice(since, until, agent)
    with explained(), opened(load()) as engine:
        found = _counted(engine, choice, shown=err.is_terminal and not (output is None and out.is_terminal))
        try:
            written = _write_to(output, into_folder, style, found)
        except BrokenPipeError:
            raise typer.Exit(EXIT_FAILED) from None  # who reads has seen enough
        except OSError as error:
            complain(f"{output or 'Standard output'} can't be written: {error.strerror or error}.")
            raise typer.Exit(EXIT_FAILED) from None
    if output is not None:
        err.print(f"{written} transcript{'s' * (written != 1)} written to {output}.", highlight=False, soft_wrap=True)


def _choice(since: str | None, until: str | None, agent: str | None) -> Choice:
    """Raises `SettingsError`."""
    now_us = system_clock()
    choice = Choice(since_us(since, now_us), until_us(until, now_us), agent)
    if choice.since is not None and choice.until is not None and choice.until <= choice.since:
        raise SettingsError(f"--until {until} is before --since {since}: no call began in between.")
    return choice


def _is_folder(output: str, style: Format) -> bool:
    """Ends the command when `output` can be neither a file nor a folder that this format is written into."""
    path = Path(output)
    if not output.endswith("/") and not path.is_dir():
        if path.exists() and not path.is_file():
            _refuse(f"--output {output} is no file and no folder; leave it out, and standard output is written.")
        return False
    if not isinstance(style, Markdown):
        name = path / f"transcripts.{style.suffix}"
        _refuse(f"--output {output} is a folder, and only markdown is a file a call; name a file, such as {name}.")
    return True


def _refuse(sentence: str) -> NoReturn:
    complain(sentence)
    raise typer.Exit(EXIT_SETTINGS)


def _counted(engine: Engine, choice: Choice, shown: bool) -> Iterator[Conversation]:
    """All that are chosen, with a progress bar when it is `shown`."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, disable=not shown) as progress:
        task = progress.add_task("Exporting", total=_count(engine, choice) if shown else None)
        for conversation in _all(engine, choice):
            yield conversation
            progress.advance(task)


def _count(engine: Engine, choice: Choice) -> int:
    with snapshots(engine).connect() as tx:
        return count(tx, choice)


def _all(engine: Engine, choice: Choice) -> Iterator[Conversation]:
    """A page at a time, each in a transaction of its own: who takes them slowly holds up nobody."""
    after: str | None = None
    while True:
        with snapshots(engine).connect() as tx:
            found = page(tx, choice, after)
        yield from found
        if len(found) < PAGE:
            return
        after = found[-1].session_id


def _write_to(output: str | None, into_folder: bool, style: Format, found: Iterable[Conversation]) -> int:
    """How many were written. Raises `OSError`."""
    if output is None:
        return _write(sys.stdout.buffer, style, found)
    if not into_folder:
        with whole_file(Path(output)) as file:
            return _write(file, style, found)
    folder, written = Path(output), 0
    folder.mkdir(parents=True, exist_ok=True)
    for conversation in found:
        with whole_file(folder / f"{safe_part(conversation.session_id)}.{style.suffix}") as file:
            written += _write(file, style, [conversation])
    return written


def _write(file: BinaryIO, style: Format, found: Iterable[Conversation]) -> int:
    written = 0
    file.write(style.head)
    for conversation in found:
        file.write(style.of(conversation))
        written += 1
    file.flush()
    return written
