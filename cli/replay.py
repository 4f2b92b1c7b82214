"""`ringlog replay CONSUMER`"""

import asyncio
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cli.context import EXIT_INTERRUPTED, complain, end_with, err, explained, load, out
from cli.database import opened
from cli.replay_text import report_json, report_lines
from cli.since import time_us
from cli.terminal import printable
from consumers.positions import PositionMismatch
from consumers.replay.building import Interrupted
from consumers.replay.lock import locked
from consumers.replay.replay import Report, Wanted
from consumers.replay.replay import replay as replayed
from consumers.replay.shadow import Shadow
from consumers.replay.window import Bound, WrongWindow, offsets_of
from runtime.clock import system_clock
from runtime.process import EXIT_SETTINGS, run
from runtime.settings import Settings

# Neither a failure nor a wrong option: a script must tell them apart.
EXIT_DIFFERENT = 4


class Consumer(StrEnum):
    billing = "billing"
    transcripts = "transcripts"
    recordings = "recordings"
    calls = "calls"


_BEGINNING = "beginning"
_TIME = "30m, 2h, 3d, 2026-01-31T09:30 in UTC, or offsets: 0:1200,1:900"

Whose = Annotated[Consumer, typer.Argument(help="Whose tables are built anew.")]
Since = Annotated[str | None, typer.Option("--from", metavar="WHEN", help=f"Read from there: {_BEGINNING}, {_TIME}.")]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help=f"Read no further: {_TIME}.")]
Diff = Annotated[bool, typer.Option("--diff", help="Show what differs, change nothing: so by itself.")]
Swap = Annotated[bool, typer.Option("--swap", help="Replace what differs in the live tables.")]
Discard = Annotated[bool, typer.Option("--discard", help="Remove what an earlier replay has built.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever an earlier one has built.")]
Partial = Annotated[
    bool, typer.Option("--partial", help="Although the log has forgotten some: such calls stay as they are.")
]
NewTerms = Annotated[
    bool, typer.Option("--new-terms", help="Billing: choose every call's plan anew, by the file as it is.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="With --swap: tell subscribers nothing of it.")]
LongestLock = Annotated[
    float, typer.Option(metavar="SECONDS", min=1, max=3600, help="With --swap: how long the consumer may wait.")
]
Show = Annotated[int, typer.Option(min=0, max=10_000, help="So many of the calls that differ.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def replay(
    consumer: Whose,
    since: Since = None,
    until: Until = None,
    diff: Diff = False,
    swap: Swap = False,
    discard: Discard = False,
    fresh: Fresh = False,
    partial: Partial = False,
    new_terms: NewTerms = False,
    quiet: Quiet = False,
    longest_lock: LongestLock = 60.0,
    show: Show = 10,
    json: Json = False,
) -> None:
    """Build a consumer's tables anew from the log, beside the live ones; say what differs, and swap it in when told.

    The running consumer goes on meanwhile. Stopped or killed, the next one goes on from there; what was built stays
    until it is swapped in or discarded, and is built anew when the code has changed since. A part of the log changes
    only calls that lie in it whole.

    Exit code 0: nothing differs, or it was swapped in; 4: something differs, or failed; 1: it did not come to an end.

    Examples:

        ringlog replay billing

        ringlog replay billing --swap

        ringlog replay transcripts --from 2026-11-01 --until 2026-11-02T12:00 --json
    """
    if sum((diff, swap, discard)) > 1:
        end_with("--diff, --swap and --discard: name one of them.", EXIT_SETTINGS)
    if (quiet and not swap) or (new_terms and consumer is not Consumer.billing):
        end_with("--quiet is for --swap, and --new-terms for billing.", EXIT_SETTINGS)
    with explained():
        settings = load()
        if discard:
            return _discard(settings, consumer.value)
        now = system_clock()
        wanted = Wanted(
            consumer=consumer.value,
            since=_bound(None if since == _BEGINNING else since, "--from", now),
            until=_bound(until, "--until", now),
            whole=since == _BEGINNING and until is None,
            fresh=fresh,
            partial=partial,
            new_terms=new_terms,
            swap=swap,
            quiet=quiet,
            longest_lock_s=longest_lock,
            show=show,
        )
        report = _replayed(settings, wanted)
    _print(report, json)
    if (report.differing and not report.swapped) or report.failures:
        raise typer.Exit(EXIT_DIFFERENT)
    return None


def _bound(said: str | None, option: str, now_us: int) -> Bound | None:
    """Raises `SettingsError`."""
    if said is None:
        return None
    if (offsets := offsets_of(said)) is not None:
        return Bound(said, offsets=offsets)
    return Bound(said, time_us=time_us(said, now_us, option))


def _replayed(settings: Settings, wanted: Wanted) -> Report:
    settings.bootstrap_servers  # noqa: B018 - says at once that it is missing
    found: list[Report] = []
    with opened(settings) as engine, _progress() as progress:
        task = progress.add_task("Looking", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total or None)

        async def main(stop: asyncio.Event) -> None:
            found.append(await replayed(settings, engine, wanted, stop, tell))

        try:
            run(main)
        except PositionMismatch as error:
            end_with(f"{wanted.consumer} can't be replayed: {error}.")
        except WrongWindow as error:
            end_with(str(error), EXIT_SETTINGS)
        except Interrupted:
            complain("Stopped before the end, and nothing was changed. The next one goes on from there.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    return found[0]


def _print(report: Report, json: bool) -> None:
    if json:
        typer.echo(msgspec.json.encode(report_json(report)))
        return
    for line in report_lines(report):
        out.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _discard(settings: Settings, consumer: str) -> None:
    with opened(settings) as engine:
        shadow = Shadow(engine, consumer)
        with locked(engine, consumer, shadow.lock_file):
            there = shadow.drop()
    said = f"What a replay of {consumer} had built is removed." if there else f"There is no replay of {consumer}."
    out.print(said, highlight=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} events/s", style="progress.data.speed")


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()
    return Progress(*columns, console=err, disable=not err.is_terminal, transient=True)
