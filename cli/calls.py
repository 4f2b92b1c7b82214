"""`ringlog calls list | show`"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, RowMapping, select

from cli.context import EXIT_FAILED, complain, explained, load, out
from cli.database import opened
from cli.since import since_us
from cli.terminal import printable
from consumers.database import read_only
from consumers.overdue import is_overdue, overdue_before
from consumers.tables import call_log, calls, reconciliations
from runtime.clock import system_clock
from runtime.settings import Settings
from schemas.event import rfc3339
from schemas.money import credits_text

app = typer.Typer(
    no_args_is_help=True, help="What is known of whole calls: announced, ended, billed, written, recorded."
)

_TIMES = ("prefetched_at", "ended_at", "started_at", "first_heard_at")

_Row = RowMapping
_T = TypeVar("_T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("list")
def list_(
    overdue: Annotated[
        bool,
        typer.Option("--overdue", help="Those that have no end, longer after their announcement than a call lasts."),
    ] = False,
    agent: Annotated[str | None, typer.Option(metavar="ID", help="Those of this agent; write --agent=ID.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Those first heard of since: 30m, 2h, 3d, or 2026-01-31.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest first.")] = 50,
    json: Json = False,
) -> None:
    """List calls, the newest first. Exit code 1 when there are none.

    Example:

        ringlog calls list --overdue --since 3d
    """
    with explained():
        settings = load()
        from_us = since_us(since, system_clock())
        rows = _from_database(settings, lambda tx: _find(tx, settings, overdue, agent, from_us, limit))
    if json:
        typer.echo(msgspec.json.encode([_told(row) for row in rows]))
    elif rows:
        out.print(_table(rows))
    if not rows:
        complain("There are no such calls.")
        raise typer.Exit(EXIT_FAILED)


# A session id may begin with a dash, as the provider's ids do, and then with an h.
@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
def show(session: Annotated[str, typer.Argument(help="The session's id.")], json: Json = False) -> None:
    """Show what is known of a call. Exit code 1 when it is nothing.

    Example:

        ringlog calls show -OmNNf485Na8Bw82RSfz
    """
    with explained():
        rows, said = _from_database(load(), lambda tx: (_one(tx, session), _asked(tx, session)))
    if not rows:
        complain(f"Nothing is known of session {session!r}: no webhook of it came, or `ringlog consume calls` lags.")
        raise typer.Exit(EXIT_FAILED)
    told = _told(rows[0]) | {"reconciliation": said}
    if json:
        typer.echo(msgspec.json.encode(told))
        return
    table = Table(show_header=False, title=Text(printable(session)), title_justify="left")
    for name, value in told.items():
        table.add_row(name.replace("_", " "), Text("unknown" if value is None else printable(str(value))))
    out.print(table)


def _find(
    tx: Connection, settings: Settings, overdue: bool, agent: str | None, from_us: int | None, limit: int
) -> Sequence[_Row]:
    """By the log, whose index knows the order; the view looks each up."""
    log = call_log.c
    wanted = select(log.session_id)
    if overdue:
        wanted = wanted.where(is_overdue(overdue_before(system_clock(), settings.longest_call_s)))
    if agent is not None:
        wanted = wanted.where(log.agent_id == agent)
    if from_us is not None:
        wanted = wanted.where(log.first_heard_at >= from_us)
    newest = wanted.order_by(log.first_heard_at.desc(), log.session_id).limit(limit).subquery()
    joined = select(calls).join(newest, calls.c.session_id == newest.c.session_id)
    return tx.execute(joined.order_by(calls.c.first_heard_at.desc(), calls.c.session_id)).mappings().all()


def _one(tx: Connection, session: str) -> Sequence[_Row]:
    return tx.execute(select(calls).where(calls.c.session_id == session)).mappings().all()


def _asked(tx: Connection, session: str) -> str | None:
    """What the provider said when it was last asked for the call; None when it never was."""
    asked = reconciliations.c
    row = tx.execute(select(asked.said, asked.asked_at).where(asked.session_id == session)).one_or_none()
    return None if row is None else f"{row.said}, {rfc3339(row.asked_at)}"


def _from_database(settings: Settings, look_up: Callable[[Connection], _T]) -> _T:
    with opened(settings) as engine, read_only(engine).connect() as tx:
        return look_up(tx)


def _told(row: _Row) -> dict[str, Any]:
    """Times as text; the amount stays an integer of micro-credits."""
    return {name: rfc3339(value) if name in _TIMES and value is not None else value for name, value in row.items()}


def _table(rows: Sequence[_Row]) -> Table:
    table = Table()
    table.add_column("session", overflow="fold")  # an id that is cut off can't be looked up
    table.add_column("first heard of", no_wrap=True)
    for name in ("end", "credits", "transcript", "recording"):
        table.add_column(name)
    for row in rows:
        end = None if row["ended_at"] is None else row["status"] or "ended"
        billed = None if row["billed_micros"] is None else credits_text(row["billed_micros"])
        cells = (f"{end} (recovered)" if row["recovered"] else end, billed, row["transcript"], row["recording_status"])
        texts = (row["session_id"], rfc3339(row["first_heard_at"])[:16].replace("T", " "), *cells)
        table.add_row(*(Text("" if text is None else printable(text)) for text in texts))
    return table
