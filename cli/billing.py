"""`ringlog billing report | call | verify`"""

import asyncio
import csv
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.billing_text import audit_lines, csv_rows, report_table, statement_lines
from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, complain, end_with, err, explained, load, out
from cli.database import opened
from cli.terminal import printable
from consumers import revisions
from consumers.billing_report import Line, Month, lines_of, month_of, totals_of
from consumers.bills import BILLING
from consumers.database import read_only, snapshot
from consumers.ledger_audit import Audit, Interrupted, audit
from consumers.positions import PositionMismatch
from consumers.statement import statement_of
from runtime.process import EXIT_SETTINGS, run
from runtime.settings import Settings

app = typer.Typer(no_args_is_help=True, help="What calls cost: by month, one call explained, and the ledger audited.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class By(StrEnum):
    agent = "agent"
    caller = "caller"
    plan = "plan"


@app.command()
def report(
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="By the time at which calls began, in UTC.")],
    by: Annotated[By, typer.Option(help="Whose calls are added up.")] = By.agent,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, without totals.")] = False,
    json: Json = False,
) -> None:
    """Add up what the calls of a month cost: the provider's cost, and what the plans charge. Needs the database only.

    A call is of the month in which it began; when the provider has not said that, of the one in which its end first
    arrived. Provisional calls are those whose cost, or charge, is not known yet; they add nothing to the sums.

    Examples:

        ringlog billing report --month 2026-11 --by agent

        ringlog billing report --month 2026-11 --by plan --csv > november.csv
    """
    if csv and json:
        end_with("--csv and --json: name one of them.", EXIT_SETTINGS)
    try:
        of = month_of(month)
    except ValueError as error:
        end_with(f"--month is wrong: {error}.", EXIT_SETTINGS)
    lines = _added_up(of, by)
    if json:
        said = {"month": of.name, "by": by.value, "lines": lines, "totals": totals_of(lines)}
        typer.echo(msgspec.json.encode(said))
    elif csv:
        _print_csv(csv_rows(by.value, lines))
    elif lines:
        out.print(report_table(of.name, by.value, lines, totals_of(lines)))
    else:
        err.print(f"No call began in {of.name} (UTC), as far as billing has read.", highlight=False)


# A session id may begin with a dash, as the provider's ids do, and then with an h.
@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
def call(session: Annotated[str, typer.Argument(help="The session's id.")], json: Json = False) -> None:
    """Explain the bill of one call: every entry, why it is there, and from which event. Exit code 1 for no such call.

    Example:

        ringlog billing call -OmNNf485Na8Bw82RSfz
    """
    with explained(), opened(load()) as engine, read_only(engine).connect() as tx:
        statement = statement_of(tx, session)
    if statement is None:
        end_with(
            f"Billing knows no call of session {session!r}: it has not ended, its end has not arrived, or"
            " `ringlog consume billing` is not running."
        )
    if json:
        typer.echo(msgspec.json.encode(statement))
        return
    for line in statement_lines(statement):
        line.plain = printable(line.plain)
        out.print(line, soft_wrap=True)


@app.command()
def verify(json: Json = False) -> None:
    """Compute the ledger anew from the log, and compare it with the tables. Exit code 1 when they differ.

    It reads `calls.ended` from its beginning as far as billing has come, beside a running billing. What is computed
    lies in a temporary SQLite file; memory stays flat. Plan charges are priced by the terms that they name.

    Example:

        ringlog billing verify
    """
    found = Audit()
    with explained():
        settings = load()
        settings.bootstrap_servers  # noqa: B018 - says at once that it is missing
        try:
            found = _audited(settings)
        except PositionMismatch as error:
            end_with(f"The ledger can't be verified: {error}.")
        except Interrupted:
            complain("Stopped before the end: nothing is verified.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    if json:
        typer.echo(msgspec.json.encode(found))
    else:
        for line in audit_lines(found):
            out.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    if found.different:
        raise typer.Exit(EXIT_FAILED)


def _added_up(month: Month, by: By) -> list[Line]:
    with explained(), opened(load()) as engine, snapshot(engine) as tx, _progress() as progress:
        task = progress.add_task("Looking at calls", total=revisions.count_sessions(tx, BILLING))
        return lines_of(tx, month, by.value, lambda more: progress.advance(task, more))


def _audited(settings: Settings) -> Audit:
    """Raises what `audit` raises."""
    found: list[Audit] = []
    with opened(settings) as engine, _progress() as progress:
        task = progress.add_task("Reading the log", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        async def main(stop: asyncio.Event) -> None:
            found.append(await audit(settings, engine, stop, tell))

        run(main)
    return found[0]


def _print_csv(rows: Iterable[Sequence[str]]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=err, disable=not err.is_terminal, transient=True)
