"""Snapshots that are torn, changed, or of other topics: a builder goes past them, and takes the next older one."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from consumers.snapshots.manifest import Snapshot, encoded
from runtime.settings import Settings
from state.generations import FROM_SNAPSHOT
from tests.building import dump_of, folded_afresh, send, served, some_events
from tests.snapshots import EVENTS, bit_flipped, built, files_of, lose_the_store, snapshot_of

pytestmark = pytest.mark.usefixtures("topics")


def _torn(settings: Settings, newest: Snapshot) -> None:
    _, data = files_of(settings, newest)
    data.write_bytes(data.read_bytes()[:-100])


def _of_another(settings: Settings, newest: Snapshot) -> None:
    """The data of the other snapshot, of which the manifest knows the sizes by chance."""
    (older,) = {path for path in (settings.data_dir / "snapshots").glob("*.zst") if newest.name not in path.name}
    _, data = files_of(settings, newest)
    data.write_bytes(older.read_bytes())
    manifest, _ = files_of(settings, newest)
    manifest.write_bytes(encoded(replace(newest, blocks=[older.stat().st_size])))


def _manifest_flipped(settings: Settings, newest: Snapshot) -> None:
    manifest, _ = files_of(settings, newest)
    manifest.write_bytes(manifest.read_bytes().replace(b'"calls.ended/0":', b'"calls.ended/1":'))


def _manifest_of_other_positions(settings: Settings, newest: Snapshot) -> None:
    """Sealed, and yet not of this store."""
    manifest, _ = files_of(settings, newest)
    fewer = {place: max(0, offset - 1) for place, offset in newest.positions.items()}
    manifest.write_bytes(encoded(replace(newest, positions=fewer)))


def _data_gone(settings: Settings, newest: Snapshot) -> None:
    files_of(settings, newest)[1].unlink()


def _of_other_topics(settings: Settings, newest: Snapshot) -> None:
    files_of(settings, newest)[0].write_bytes(encoded(replace(newest, lineage="elsewhere/")))


def _of_an_older_fold(settings: Settings, newest: Snapshot) -> None:
    files_of(settings, newest)[0].write_bytes(encoded(replace(newest, fold_version=1)))


def _of_positions_to_come(settings: Settings, newest: Snapshot) -> None:
    further = {place: offset + 1000 for place, offset in newest.positions.items()}
    files_of(settings, newest)[0].write_bytes(encoded(replace(newest, positions=further)))


@pytest.mark.parametrize(
    "spoil",
    [
        _torn,
        bit_flipped,
        _of_another,
        _manifest_flipped,
        _manifest_of_other_positions,
        _data_gone,
        _of_other_topics,
        _of_an_older_fold,
        _of_positions_to_come,
    ],
)
async def test_snapshot_that_is_of_no_use_is_gone_past(
    settings: Settings,
    tmp_path: Path,
    spoil: Callable[[Settings, Snapshot], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.follower.END_RETRY_S", 0.05)
    await send(settings, *some_events(EVENTS, 2))
    assert await built(settings, EVENTS) == EVENTS
    older = await snapshot_of(settings)
    await send(settings, *some_events(EVENTS, 3))
    await built(settings, 2 * EVENTS)
    await asyncio.sleep(1.0)  # names are of a second
    newest = await snapshot_of(settings)
    assert newest.name > older.name
    spoil(settings, newest)
    lose_the_store(settings)
    assert await built(settings, 2 * EVENTS) == EVENTS
    assert (served(settings) / FROM_SNAPSHOT).read_text().strip() == older.name
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")
    assert not list(settings.state_dir.glob("scratch-*"))
