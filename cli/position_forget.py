"""`ringlog positions forget`: a consumer of somebody's own that was given up."""

from typing import Annotated, Any

import msgspec
import typer
from sqlalchemy import Engine

from cli.consumer_processes import counted, processes_of
from cli.context import ask, end_with, explained, load, out
from cli.database import opened
from consumers import footprint
from consumers.database import read_only
from consumers.footprint import Footprint
from consumers.lag import BUILDER, OURS
from runtime.cluster import connected
from runtime.process import EXIT_SETTINGS, run
from runtime.settings import Settings


def forget(
    consumer: Annotated[str, typer.Argument(help="The name of one of your own, as `ringlog lag` says it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Don't look whether it runs; needs no Kafka.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Take a consumer of your own that was given up out of the database: `ringlog lag` shows it no more.

    Its positions go, and what ringlog noted for it: sessions, revisions, settled dead letters. Tables of its own
    stay. Under this name it would begin at the first event again.

    Examples:

        ringlog positions forget crm

        ringlog positions forget crm --yes --json
    """
    if consumer in OURS or consumer == BUILDER:
        end_with(
            f"{consumer} is ringlog's own and is not forgotten: it would read everything again, from the beginning."
            " To have it do so is `ringlog state rebuild` for profiles, and `ringlog replay` for the books.",
            EXIT_SETTINGS,
        )
    with explained():
        settings = load()
        with opened(settings) as engine:
            found = _found(engine, consumer)
            if not force:
                run(lambda _stop: _refuse_running(settings, consumer))
            _refuse_open(consumer, found)
            _agree(consumer, found, yes=yes, json=json)
            gone = _erase(engine, consumer, found, force=force)
    if json:
        typer.echo(msgspec.json.encode({"consumer": consumer, "forgotten": _counts(gone)}))
    else:
        out.print(f"{consumer} is forgotten.", markup=False, highlight=False, soft_wrap=True)


def _found(engine: Engine, consumer: str) -> Footprint:
    with read_only(engine).connect() as tx:
        found = footprint.of(tx, consumer)
    if found.is_nothing:
        end_with(f"There is nothing of {consumer!r} in the database: `ringlog lag` shows whose positions there are.")
    return found


async def _refuse_running(settings: Settings, consumer: str) -> None:
    async with connected(settings) as cluster:
        members = await processes_of(cluster, settings, consumer)
    if members:
        end_with(
            f"{consumer} runs ({counted(members)}), and would begin at the first event again: stop it first, or say"
            " --force."
        )


def _refuse_open(consumer: str, found: Footprint) -> None:
    if found.unsettled:
        end_with(
            f"{consumer} has {_number(found.unsettled, 'unsettled dead letter')}: forgotten with it, nobody would know"
            f" what was never handled. Redrive them, or say `ringlog dead-letters discard {consumer} --all`, first."
        )
    if found.waiting:
        end_with(
            f"{consumer} has {_number(found.waiting, 'derived event')} waiting to be published, and what they tell of"
            " is done: who reads them would never hear of it. Run it once more, until Kafka has them."
        )


def _agree(consumer: str, found: Footprint, *, yes: bool, json: bool) -> None:
    """Ends the command when nobody agrees."""
    if not json:
        counts = [
            _number(count, name.replace("_", " ").removesuffix("s")) for name, count in _counts(found).items() if count
        ]
        out.print(
            f"Of {consumer}, {', '.join(counts)} are removed. Tables of its own stay.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if not yes:
        question = f"Under this name it would begin at the first event again. Forget {consumer}?"
        ask(question, "Nothing was forgotten", json=json)


def _erase(engine: Engine, consumer: str, seen: Footprint, *, force: bool) -> Footprint:
    """What was there, under the lock, and is gone."""
    with engine.begin() as tx:
        found = footprint.of(tx, consumer, lock=True)
        _refuse_open(consumer, found)
        if found.positions != seen.positions and not force:
            end_with(
                f"Nothing was forgotten: {consumer} has read on meanwhile, so a process of it runs. Stop it first."
            )
        footprint.erase(tx, consumer)
    return found


def _counts(found: Footprint) -> dict[str, Any]:
    return {
        "positions": len(found.positions),
        "sessions": found.sessions,
        "revisions": found.revisions,
        "dead_letters": found.dead_letters,
    }


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
