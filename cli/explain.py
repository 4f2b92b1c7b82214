"""`ringlog explain`: what a prefetch was answered, and what it would be answered with other templates."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, end_with, err, explained, load, out
from cli.explain_text import diff_lines, explanation_json, explanation_lines, styled
from cli.explainer.announcement import Announcement, Interrupted, Told, last, of_session
from cli.explainer.explanation import Explanation
from cli.explainer.explanation import explain as explain_one
from cli.explainer.past import recall
from cli.terminal import printable
from runtime.process import EXIT_SETTINGS, run
from runtime.settings import Settings
from service.prompts import Prompts

app = typer.Typer(add_completion=False)

MOST = 100_000

T = TypeVar("T")
Ask = Callable[[asyncio.Event, Told], Awaitable[T]]


# A session id may begin with a dash, as the provider's ids do, and then with an h.
@app.command("explain", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
def explain(
    session: Annotated[str | None, typer.Argument(help="The session's id.")] = None,
    last_: Annotated[
        int | None, typer.Option("--last", min=1, max=MOST, metavar="N", help="Instead: the last N prefetches.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Compare with these templates. Default: those in use.")
    ] = None,
    diffs: Annotated[int, typer.Option(min=0, help="With --last: show the first so many differences.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what a prefetch was answered: made again from the log, as of then, as of now, and with other templates.

    What is known of the caller is in an answer, and is printed. With --last: how many answers would be others with the
    templates in DIR. Exit code 1 when there is no such prefetch, or its answer can't be made again.

    Examples:

        ringlog explain -OmNNf485Na8Bw82RSfz

        ringlog explain --last 1000 --prompts new-prompts
    """
    if (session is None) == (last_ is None):
        end_with("Name a session, or say --last N.", EXIT_SETTINGS)
    with explained():
        settings = load()
        in_use = Prompts(settings.prompts_dir)
        compared = Prompts(prompts, "--prompts") if prompts else in_use
        if last_ is None:
            assert session is not None  # noqa: S101 - one of the two is there
            found = _made_again(
                settings, lambda stop, tell: of_session(settings, session, stop, tell), in_use, compared
            )
            _show(session, found, str(prompts) if prompts else None, json)
        else:
            number = last_
            found = _made_again(settings, lambda stop, tell: last(settings, number, stop, tell), in_use, compared)
            _sum_up(found, str(prompts) if prompts else "the templates in use", diffs, json)


def _made_again(
    settings: Settings, find: Ask[list[Announcement]], in_use: Prompts, compared: Prompts
) -> list[Explanation]:
    """Raises `KafkaUnavailable`; ends the command when it is stopped."""
    found: list[Explanation] = []

    async def main(stop: asyncio.Event) -> None:
        with _progress() as progress:
            task = progress.add_task("")

            def tell(what: str, done: int, total: int) -> None:
                progress.update(task, description=what, completed=done, total=total)

            wanted = await find(stop, tell)
            past = await recall(settings, wanted, stop, tell)
            for number, it in enumerate(wanted, 1):
                found.append(explain_one(it, past, in_use, compared))
                tell("Answering again", number, len(wanted))

    try:
        run(main)
    except Interrupted:
        end_with("Stopped before the end.", EXIT_INTERRUPTED)
    return found


def _show(session: str, found: list[Explanation], compared: str | None, json: bool) -> None:
    if not found:
        end_with(f"There is no prefetch of session {session!r} in the log.")
    if json:
        typer.echo(msgspec.json.encode([explanation_json(it, compared) for it in found]))
    else:
        for it in found:
            for line in explanation_lines(it, compared):
                line.plain = printable(line.plain)
                out.print(line, soft_wrap=True)
    if not all(it.confirmed for it in found):
        raise typer.Exit(EXIT_FAILED)


def _sum_up(found: list[Explanation], compared: str, diffs: int, json: bool) -> None:
    different = [it for it in found if it.differs]
    same = sum(it.differs is False for it in found)
    unknown = len(found) - len(different) - same
    unconfirmed = sum(it.differs is not None and not it.confirmed for it in found)
    shown = [it for it in different if it.then is not None and it.other is not None][:diffs]
    if json:
        counts = {"different": len(different), "same": same, "unknown": unknown, "unconfirmed": unconfirmed}
        examples = [explanation_json(it, compared) | {"diff": _diff(it, compared)} for it in shown]
        typer.echo(msgspec.json.encode({"prefetches": len(found), **counts, "examples": examples}))
        return
    for it in shown:
        out.print(printable(it.announcement.event.session_id), style="bold", markup=False, highlight=False)
        for line in styled(_diff(it, compared)):
            line.plain = printable(line.plain)
            out.print(line, soft_wrap=True)
        out.print()
    said = [f"Of {len(found)} prefetches {len(different)} would be answered otherwise with {compared}, {same} alike"]
    said += [f"of {unknown} nobody can know"] if unknown else []
    out.print(f"{', '.join(said)}.", markup=False, highlight=False, soft_wrap=True)
    if unconfirmed:
        err.print(
            f"Of {unconfirmed} that were compared the answer of then could not be made again; `ringlog explain SESSION`"
            " says why.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _diff(it: Explanation, compared: str) -> list[str]:
    return diff_lines(it.then or b"", it.other or b"", "as of then", compared)


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=err, disable=not err.is_terminal, transient=True)
