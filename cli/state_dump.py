"""`ringlog state dump | hash`"""

import os
import sys
from collections.abc import Iterable
from typing import Annotated

import msgspec
import typer

from cli.context import explained, load, out
from cli.state_store import opened, readable, store_of
from state.dump import digest_of, lines_of
from state.fold import FOLD_VERSION
from state.scratch import scratch_in
from state.view import copy_store

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def dump() -> None:
    """Print all that is known of callers, and the positions, as JSON Lines: a row a line, sorted.

    Stores that are equal print the same, to the byte; that is how two instances are compared. Facts and metadata are in
    it: treat it as what callers have told you. What is printed is a copy of one moment, and the builder goes on.

    Example:

        ringlog state dump | gzip > state.jsonl.gz
    """
    with explained():
        settings = load()
        path = store_of(settings)
        with readable(path), scratch_in(settings.state_dir) as scratch:  # whoever reads us may take hours
            copy_store(path, scratch, settings.state_room)
            with opened(scratch) as view:
                _print(lines_of(view.rows()))


def _print(lines: Iterable[bytes]) -> None:
    try:
        for line in lines:
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # who reads us has seen enough, and Python need not try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def hash_(json: Json = False) -> None:
    """Print one digest of all that is known of callers, and of the positions up to which the topics were read.

    It is the sha256 of what `ringlog state dump` prints. Two instances of one version agree when their positions do.

    Example:

        ringlog state hash
    """
    with explained(), opened(store_of(load())) as view:
        digest = digest_of(view.rows())
        positions = {f"{topic}/{number}": offset for (topic, number), offset in sorted(view.positions().items())}
        entries = view.entries()
    if json:
        said = {"sha256": digest, "fold_version": FOLD_VERSION, "rows": entries, "positions": positions}
        typer.echo(msgspec.json.encode(said))
        return
    typer.echo(digest)
    counted = ", ".join(f"{count} {name}" for name, count in entries.items())
    out.print(f"fold version {FOLD_VERSION}: {counted}", highlight=False, soft_wrap=True)
    out.print(f"positions: {positions_text(positions)}", highlight=False, soft_wrap=True)


def positions_text(positions: dict[str, int]) -> str:
    """`calls.ended 10+7+0, callers.facts 3+1+0`: the offsets of a topic's partitions, in their order."""
    topics: dict[str, list[str]] = {}
    for place, offset in sorted(positions.items(), key=_by_number):
        topics.setdefault(place.rpartition("/")[0], []).append(str(offset))
    return ", ".join(f"{topic} {'+'.join(offsets)}" for topic, offsets in topics.items())


def _by_number(item: tuple[str, int]) -> tuple[str, int]:
    topic, _, number = item[0].rpartition("/")
    return topic, int(number)
