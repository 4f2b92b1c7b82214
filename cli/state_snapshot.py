"""`ringlog state snapshot | snapshots`"""

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, complain, err, explained, join, load, out
from cli.since import seconds_of
from cli.snapshot_schedule import SnapshotSchedule
from cli.state_inspect import lineage_text
from cli.state_store import readable, store_of
from consumers.object_store import StorageAway
from consumers.snapshots.manifest import BadSnapshot, Snapshot, unreadable_here
from consumers.snapshots.storage import SnapshotStorage
from consumers.snapshots.taking import prune, take
from consumers.stopping import Stopped
from runtime.clock import system_clock
from runtime.process import run
from runtime.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class _Made(msgspec.Struct):
    snapshot: Snapshot
    removed: list[str]


class _Listed(msgspec.Struct):
    """`unusable`: why this version can't start from it; whether it goes with the topics, its builder finds out."""

    name: str
    snapshot: Snapshot | None
    unusable: str | None


def snapshot(
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Again and again, when the newest is older than that: 6h. Otherwise once."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a copy of the state store to object storage, compressed, with a checksum and its positions.

    It goes to RINGLOG_SNAPSHOTS_URL. A builder without a store starts from the newest one, and reads what came since.
    Old ones of these topics are removed, but for the newest RINGLOG_SNAPSHOTS_KEEP. Needs the builder's data directory,
    with room for a copy; needs no Kafka, and its builder goes on. With --every it stays, with health and metrics on
    RINGLOG_OPS_PORT, until SIGTERM; what fails is logged and tried again, and --json prints a line a snapshot.

    Examples:

        ringlog state snapshot

        ringlog state snapshot --every 6h
    """
    with explained():
        if every is None:
            _once(load(), json)
        else:
            every_s = seconds_of(every, "--every")
            schedule = SnapshotSchedule(join("snapshots"), every_s, _tell_programs if json else _tell_nobody)
            run(schedule.run)


def _once(settings: Settings, json: bool) -> None:
    made: list[_Made] = []
    path = store_of(settings)
    storage = SnapshotStorage.open(settings)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task("Copying the store", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total or None)

        async def main(stop: asyncio.Event) -> None:
            done = await take(storage, path, settings.state_room, stop, tell, system_clock)
            made.append(_Made(done, []))
            made[0].removed = await prune(storage, done, settings.snapshots_keep, system_clock)

        try:
            with readable(path):
                run(main)
        except StorageAway as error:
            _complain_of(error, made)
        except Stopped:
            complain("Stopped before the end: there is no new snapshot.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    it = made[0]
    if json:
        _tell_programs(it.snapshot, it.removed)
        return
    done = it.snapshot
    sizes = f"{_size(done.bytes)}, compressed {_size(done.compressed_bytes)}"
    out.print(f"Snapshot {done.name}: {done.profiles} profiles, {sizes}.", highlight=False, soft_wrap=True)
    if it.removed:
        out.print(f"Removed: {', '.join(it.removed)}.", highlight=False, soft_wrap=True)


def _tell_programs(done: Snapshot, removed: list[str]) -> None:
    typer.echo(msgspec.json.encode(_Made(done, removed)))


def _tell_nobody(_done: Snapshot, _removed: list[str]) -> None:
    """The log says it."""


def snapshots(json: Json = False) -> None:
    """List the snapshots in object storage, the newest first: from when, how large, and whether they can be read here.

    Example:

        ringlog state snapshots --json
    """
    listed: list[_Listed] = []
    with explained():
        settings = load()
        storage = SnapshotStorage.open_existing(settings)

        async def main(_stop: asyncio.Event) -> None:
            if storage is not None:
                listed.extend([await _looked_at(storage, name) for name in await storage.names()])

        try:
            run(main)
        except StorageAway as error:
            _complain_of(error, [])
    if json:
        typer.echo(msgspec.json.encode(listed))
    elif listed:
        out.print(_table(listed))
    else:
        err.print("There are no snapshots: `ringlog state snapshot` makes one.", highlight=False, soft_wrap=True)


async def _looked_at(storage: SnapshotStorage, name: str) -> _Listed:
    try:
        found = await storage.manifest(name)
    except BadSnapshot as error:
        return _Listed(name, None, str(error))
    return _Listed(name, found, unreadable_here(found))


def _complain_of(error: StorageAway, made: list[_Made]) -> None:
    what = f"The snapshot {made[0].snapshot.name} was made, and old ones were not removed" if made else "Snapshots"
    complain(f"{what}: the object storage can't be used ({error}).")
    raise typer.Exit(EXIT_FAILED) from None


def _table(listed: list[_Listed]) -> Table:
    table = Table(Column("snapshot", no_wrap=True), "profiles", "size", "events", "of", "")
    for it in listed:
        found = it.snapshot
        cells: list[Any] = [it.name]
        if found is not None:
            events = sum(found.positions.values())
            cells += [str(found.profiles), _size(found.compressed_bytes), str(events), lineage_text(found.lineage)]
        else:
            cells += [""] * 4
        table.add_row(*cells, it.unusable or "")
    return table


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
