"""`ringlog state verify`"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, complain, err, explained, load, out
from cli.state_store import readable, store_of
from cli.terminal import printable
from consumers.state_verification import Unverifiable, Verification
from consumers.state_verification import verify as verification_of
from consumers.stopping import Stopped
from runtime.process import run
from runtime.settings import Settings
from state.comparison import Difference

EXIT_UNVERIFIABLE = 3  # nothing was found wrong, and nothing right

_TOLD = 20  # differences, for people; more would push everything else off the screen
_LONGEST_VALUE = 200

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def verify(json: Json = False) -> None:
    """Fold the topics anew, from their beginnings, and compare the result with the store, to the byte.

    It takes a copy of the store, and reads the topics exactly as far as the copy is; a running builder goes on. For so
    long it needs room for two stores more. Exit code 1 when something differs, 3 when the topics can't say what the
    store must be, because retention took their beginnings.

    Example:

        ringlog state verify
    """
    found = Verification()
    with explained():
        settings = load()
        settings.bootstrap_servers  # noqa: B018 - says at once that it is missing
        path = store_of(settings)
        try:
            with readable(path):
                found = _verified(settings, path)
        except Unverifiable as error:
            complain(f"The state can't be verified: {error}.")
            raise typer.Exit(EXIT_UNVERIFIABLE) from None
        except Stopped:
            complain("Stopped before the end: nothing is verified.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    if json:
        typer.echo(msgspec.json.encode(found))
    else:
        for line in _lines(found):
            out.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    if found.different:
        raise typer.Exit(EXIT_FAILED)


def _verified(settings: Settings, path: Path) -> Verification:
    found: list[Verification] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task("Copying the store", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total or None)

        async def main(stop: asyncio.Event) -> None:
            found.append(await verification_of(settings, path, stop, tell))

        run(main)
    return found[0]


def _lines(found: Verification) -> Iterator[str]:
    for difference in found.differences[:_TOLD]:
        yield from _difference_lines(difference)
    if found.different > _TOLD:
        yield f"... and {found.different - _TOLD} more"
    said = "differ" if found.different else "differ: the store is what the topics say"
    yield f"{found.different or 'None'} of {found.rows} rows {said}; {found.events} events were read."
    if found.newer_facts:
        yield (
            f"{found.newer_facts} facts were written again meanwhile, and were not compared: compaction may have"
            " removed what they were before."
        )


def _difference_lines(it: Difference) -> Iterator[str]:
    where = f"{it.database} {it.key}"
    if it.live is None or it.rebuilt is None:
        side, row = ("topics", it.rebuilt) if it.live is None else ("store", it.live)
        yield f"{where}: only the {side} say so: {_short(row)}"
        return
    yield where
    for name in (*it.live, *(name for name in it.rebuilt if name not in it.live)):
        store, topics = it.live.get(name), it.rebuilt.get(name)
        if store != topics:
            yield f"  {name}: {_short(store)} in the store, {_short(topics)} by the topics"


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + " ..."
