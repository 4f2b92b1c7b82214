"""Which dead letters somebody means: named, or all that are so."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Engine

from cli.context import end_with
from cli.since import since_us
from consumers import letter_book
from consumers.database import read_only
from consumers.letter_book import Letter, place
from runtime.clock import system_clock
from runtime.process import EXIT_SETTINGS
from runtime.settings import Settings


class Wanted(msgspec.Struct):
    """As the command line says it. `discarded`: of those that were discarded, instead of those nobody has settled."""

    which: list[str]
    all: bool
    error: str | None
    since: str | None
    session: str | None
    discarded: bool = False


def chosen(engine: Engine, settings: Settings, consumer: str, wanted: Wanted) -> list[Letter]:
    """Ends the command when it does not say which. Raises `SettingsError`."""
    said = (wanted.error, wanted.since, wanted.session)
    are_so = wanted.all or wanted.discarded or any(it is not None for it in said)
    if wanted.which and not are_so:
        return named(engine, settings, consumer, wanted.which)
    if wanted.which:
        end_with("Name dead letters, or say which by --all, --error, --since and --session; not both.", EXIT_SETTINGS)
    if not are_so:
        end_with("Name dead letters, or say which by --all, --error, --since or --session.", EXIT_SETTINGS)
    with read_only(engine).connect() as tx:
        time = since_us(wanted.since, system_clock())
        found = letter_book.find(
            tx, consumer, settled=wanted.discarded, error=wanted.error, since_us=time, session_id=wanted.session
        )
    return [it for it in found if it.outcome == ("discarded" if wanted.discarded else None)]


def named(engine: Engine, settings: Settings, consumer: str, which: Sequence[str]) -> list[Letter]:
    """Settled ones, too. Ends the command when there is none of a name."""
    with read_only(engine).connect() as tx:
        letters = letter_book.find(tx, consumer, settled=True)
    found: dict[str, Letter] = {}
    for name in which:
        matching = letter_book.matching(letters, name, settings.topic_prefix)
        if not matching:
            end_with(f"{consumer} has no dead letter {name}: `ringlog dead-letters list {consumer} --all` shows them.")
        found |= {place(letter): letter for letter in matching}
    return list(found.values())
