"""`ringlog state rebuild`: the profiles anew from the topics, while those that are there answer."""

import asyncio
import os
import time
from typing import Annotated

import lmdb
import msgspec
import typer

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, complain, explained, load, out
from cli.rebuild_progress import RebuildProgress
from consumers.handover import rebuild_aside
from consumers.rebuild import Forgetful, Rebuild
from runtime.clock import system_clock
from runtime.process import run
from runtime.settings import Settings
from state.generations import Generations
from state.layout import Damaged
from state.lock import StoreBusy
from state.room import NoRoom

# A caller waits for their answer, and nobody for this: where they want the same core, the service has it.
NICENESS = 19


class Result(msgspec.Struct):
    """`events` were folded now; what was `resumed` had others before."""

    generation: str
    events: int
    profiles: int
    seconds: float
    resumed: bool


def rebuild(
    forgetful: Annotated[
        bool,
        typer.Option(
            "--forgetful", help="Also when retention took the beginning of a topic: what was in it is not known then."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Build the profiles anew from the beginning of the topics, beside those that are served, and then serve them.

    Run it where the profile builder runs: it works in the same data directory. A builder goes on meanwhile and takes
    the new generation over when it has caught up; no answer is missing, and none goes back. Broken off or killed, it
    goes on where it was when it is run again.

    Examples:

        ringlog state rebuild

        ringlog state rebuild --json
    """
    with explained():
        result = _rebuild(load(), forgetful)
    if result is None:
        complain("Stopped before the end; run it again, and it goes on.")
        raise typer.Exit(EXIT_INTERRUPTED)
    if json:
        typer.echo(msgspec.json.encode(result))
        return
    out.print(
        f"{result.generation} is served: {result.profiles:,} profiles; {result.events:,} events"
        f" {'more ' if result.resumed else ''}were folded in {result.seconds:,.1f} s.",
        highlight=False,
    )


def _rebuild(settings: Settings, forgetful: bool) -> Result | None:
    """None when it was stopped."""
    settings.bootstrap_servers  # noqa: B018 - says at once that it is missing
    os.nice(NICENESS)
    generations = Generations(settings.state_dir)
    started = time.monotonic()
    with RebuildProgress() as progress:
        rebuild = Rebuild(settings, generations, system_clock, may_forget=forgetful, progress=progress.step)

        async def main(stop: asyncio.Event) -> int:
            def waiting() -> None:
                progress.say(f"{rebuild.generation} has caught up; the running builder takes it over")

            return EXIT_INTERRUPTED if await rebuild_aside(rebuild, generations, stop, waiting) is None else 0

        try:
            if run(main):
                return None
        except Forgetful as error:
            _refuse(
                f"A new generation would know less than the topics once said: {error}."
                " With --forgetful it is built from what there is."
            )
        except StoreBusy as error:
            _refuse(f"Nothing was done: {error}.")
        except Damaged as error:
            _refuse(f"The new generation was damaged and is given up ({error}); look at the disk, and run it again.")
        except (lmdb.Error, OSError) as error:
            if isinstance(error, ConnectionError | NoRoom):
                raise
            _refuse(f"The state store in {settings.state_dir} can't be written: {error}; run it again, and it goes on.")
    return Result(
        rebuild.generation, progress.events, rebuild.profiles, round(time.monotonic() - started, 3), rebuild.resumed
    )


def _refuse(sentence: str) -> None:
    complain(sentence)
    raise typer.Exit(EXIT_FAILED)
