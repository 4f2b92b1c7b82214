"""`ringlog recordings list | retry | verify`"""

import asyncio
from collections import Counter
from typing import Annotated

import msgspec
import typer
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from sqlalchemy import Engine

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, complain, end_with, err, explained, load, out, result_of
from cli.database import opened
from cli.recording_text import entry_json, table_of, totals
from cli.since import since_us
from cli.terminal import printable
from consumers.database import read_only
from consumers.object_store import StorageAway
from consumers.recordings import book
from consumers.recordings.book import Entry, Status
from consumers.recordings.storage import Storage
from consumers.recordings.verification import Verdict, verify
from consumers.recordings.work_table import now_us
from runtime.clock import system_clock
from runtime.process import EXIT_SETTINGS, run
from runtime.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="The recorded sound of calls: what has become of it, another chance for it, and whether it is still whole.",
)

_COMPLAINTS = 20  # more would push everything else off the screen

# A session id may begin with a dash, as the provider's ids do, and no short option is to be found in it.
_ANY_ID = {"ignore_unknown_options": True, "help_option_names": ["--help"]}

Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Of calls that ended since: 30m, 2h, 3d, or 2026-01-31T09:30 in UTC."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("list")
def list_(
    status: Annotated[Status | None, typer.Option(help="Those of this status.", case_sensitive=False)] = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many, the newest calls first.")] = 100,
    json: Json = False,
) -> None:
    """List recordings: where each lies, or why it is not there. Needs the database, and not the storage.

    Example:

        ringlog recordings list --status failed --since 3d
    """
    with explained():
        time = since_us(since, system_clock())
        with opened(load()) as engine, read_only(engine).connect() as tx:
            entries = book.find(tx, status=status, since_us=time, limit=limit)
            counts = book.counts(tx, status=status, since_us=time)
    if json:
        typer.echo(msgspec.json.encode([entry_json(entry) for entry in entries]))
        return
    if not entries:
        err.print("There are no such recordings.", highlight=False)
        return
    out.print(table_of(entries))
    shown = f", {len(entries)} shown" if len(entries) < sum(count for count, _ in counts.values()) else ""
    err.print(totals(counts) + shown, highlight=False, soft_wrap=True)


@app.command(context_settings=_ANY_ID)
def retry(
    sessions: Annotated[list[str] | None, typer.Argument(help="Ids of sessions.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that have failed.")] = False,
    refused: Annotated[
        bool, typer.Option("--refused", help="All that were refused, once a setting is mended.")
    ] = False,
    lost: Annotated[bool, typer.Option("--lost", help="Also what is stored, if its object is gone.")] = False,
    since: Since = None,
    json: Json = False,
) -> None:
    """Give recordings a fresh budget of attempts, the first of them at once. A running `ringlog consume recordings`
    fetches them.

    Examples:

        ringlog recordings retry --failed --since 3d

        ringlog recordings retry -OmNNf485Na8Bw82RSfz
    """
    wanted = sessions or []
    if bool(wanted) == (failed or refused) or (wanted and since) or (lost and not wanted):
        end_with("Name sessions, with --lost perhaps, or say which by --failed, --refused and --since.", EXIT_SETTINGS)
    with explained():
        settings = load()
        with opened(settings) as engine:
            if wanted:
                done = _retry_named(settings, engine, wanted, lost)
            else:
                time = since_us(since, system_clock())
                statuses = [Status.FAILED] * failed + [Status.REFUSED] * refused
                with engine.begin() as tx:
                    done = book.retry_all(tx, now_us(tx), statuses, time)
    if json:
        typer.echo(msgspec.json.encode({"retried": done}))
    else:
        out.print(f"{done} due now.", highlight=False)


@app.command("verify")
def verify_(since: Since = None, json: Json = False) -> None:
    """Read all that is stored, hash it, and compare it with what was stored. Exit code 1 when anything is not the same.

    It reads every byte: on S3 that is paid for.

    Example:

        ringlog recordings verify --since 7d
    """
    result = _Verified()
    with explained():
        settings = load()
        time = since_us(since, system_clock())
        storage = Storage.open(settings)
        with opened(settings) as engine:
            try:
                run(lambda stop: _verify(storage, engine, time, result, stop))
            finally:  # what was found stays found, whatever went wrong then
                _report(result, json)
    if result.away or result.wrong:
        raise typer.Exit(EXIT_FAILED)
    if not result.complete:
        raise typer.Exit(EXIT_INTERRUPTED)


class _Verified(msgspec.Struct):
    """What was found so far. `away` says why the storage could not be read to the end."""

    checked: int = 0
    bytes: int = 0
    wrong: list[Verdict] = []
    complete: bool = False
    away: str | None = None


def _retry_named(settings: Settings, engine: Engine, sessions: list[str], lost: bool) -> int:
    """All of them or none: ends the command otherwise."""
    with read_only(engine).connect() as tx:
        found = book.named(tx, sessions)
    if unknown := [session for session, entry in found.items() if entry is None]:
        end_with(f"There is no recording of {', '.join(map(printable, unknown[:_COMPLAINTS]))}.")
    entries = [entry for entry in found.values() if entry is not None]
    for entry in entries:
        if entry.status == Status.STORED:
            _must_be_gone(settings, entry, lost)
    with engine.begin() as tx:
        return book.retry(tx, now_us(tx), [entry.session_id for entry in entries])


def _must_be_gone(settings: Settings, entry: Entry, lost: bool) -> None:
    """What lies in the storage is all that there may be in the world: a retry must not put anything in its place."""
    name = printable(entry.session_id)
    if not lost:
        end_with(f"The recording of {name} is stored. If its object is gone, fetch it again with --lost.")
    storage = Storage.open(settings)
    try:
        there = result_of(lambda: storage.holds(entry.object or ""))
    except StorageAway as error:
        end_with(f"The storage of the recordings can't be read ({error}).")
    if there:
        end_with(f"The recording of {name} is there: {entry.object}. If it is not what was stored, move it away first.")


async def _verify(storage: Storage, engine: Engine, since: int | None, result: _Verified, stop: asyncio.Event) -> None:
    with read_only(engine).connect() as tx:
        _, total = book.counts(tx, status=Status.STORED, since_us=since).get(Status.STORED, (0, 0))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task("Verifying", total=total)

        def read(count: int) -> None:
            result.bytes += count
            progress.advance(task, count)

        try:
            async for verdict in verify(engine, storage, since, stop, read):
                result.checked += 1
                if verdict.state != "ok":
                    result.wrong.append(verdict)
        except StorageAway as error:
            result.away = str(error)
            return
    result.complete = not stop.is_set()


def _report(result: _Verified, json: bool) -> None:
    if json:
        typer.echo(msgspec.json.encode(result))
        return
    for it in result.wrong[:_COMPLAINTS]:
        complain(printable(f"{it.session_id} {it.state}: {it.object}: {it.reason}."))
    if (more := len(result.wrong) - _COMPLAINTS) > 0:
        complain(f"{more} more are wrong; --json says all of them.")
    if result.away:
        complain(f"The storage of the recordings can't be read ({result.away}).")
    counts = Counter(it.state for it in result.wrong)
    found = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    found = found or ("all as they were stored" if result.complete else "none wrong so far")
    s = "" if result.checked == 1 else "s"
    end = "" if result.complete else ", stopped before the end"
    out.print(
        f"{result.checked} recording{s}, {decimal(result.bytes)} read: {found}{end}.", highlight=False, soft_wrap=True
    )
