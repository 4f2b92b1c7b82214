"""Snapshots in a folder: what is written, what is refused, what is removed."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import cramjam
import pytest
from msgspec.structs import replace

from consumers.object_store import StorageAway
from consumers.snapshots import taking
from consumers.snapshots.manifest import BadSnapshot, Snapshot, decoded, encoded, unreadable_here
from consumers.snapshots.storage import SnapshotStorage
from consumers.snapshots.taking import newest, prune, take
from consumers.stopping import Stopped
from runtime.settings import Settings, SettingsError, load_settings
from state.layout import DATA_FILE, About, Damaged
from state.store import ProfileStore
from state.view import NoStore, view_of
from tests.unit.state.events import ended, slices_of

NOW_MS = 1_780_000_000_000
DAY_MS = 86_400_000

LOG = [ended(f"s{n}", f"caller-{n % 50}", n, metadata={"text": f"{n * n % 9973:08}" * 40}) for n in range(3000)]


class Scene:
    def __init__(self, folder: Path) -> None:
        self.settings: Settings = load_settings(data_dir=folder)
        self.storage = SnapshotStorage.open(self.settings)
        self.store = folder / "store"
        self.folder = folder / "snapshots"
        self.told: list[tuple[str, int, int]] = []
        self.now_ms = NOW_MS
        self.stop = asyncio.Event()

    def clock(self) -> int:
        return self.now_ms * 1000

    async def take(self) -> Snapshot:
        def tell(what: str, done: int, total: int) -> None:
            self.told.append((what, done, total))

        return await take(self.storage, self.store, self.settings.state_room, self.stop, tell, self.clock)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    store = ProfileStore(scene.store)
    store.fold(slices_of(LOG))
    store.set_about(About("cluster/", True, NOW_MS - 5))
    store.close()
    return scene


async def test_snapshot_is_two_objects_and_says_what_it_is(scene: Scene) -> None:
    taken = await scene.take()
    assert scene.files() == [f"{taken.name}.json", f"{taken.name}.mdb.zst"]
    assert taken.name.startswith("20260528T202640Z-")
    assert (taken.lineage, taken.seen_at_ms, taken.profiles) == ("cluster/", NOW_MS - 5, 50)
    assert taken.offsets == {("calls.ended", 0): 3000}
    assert taken.compressed_bytes == (scene.folder / f"{taken.name}.mdb.zst").stat().st_size < taken.bytes
    assert await scene.storage.names() == [taken.name]
    assert await scene.storage.manifest(taken.name) == taken
    assert scene.told[-1] == ("Uploading", taken.bytes, taken.bytes)
    assert not list(scene.settings.state_dir.iterdir())


async def test_its_data_are_a_file_of_zstd_with_the_store_in_it(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (taking, __import__("consumers.snapshots.manifest", fromlist=["BLOCK_BYTES"])):
        monkeypatch.setattr(module, "BLOCK_BYTES", 64 * 1024)
    taken = await scene.take()
    assert len(taken.blocks) > 10
    (tmp_path / "copy").mkdir()
    data = tmp_path / "copy" / DATA_FILE
    data.write_bytes(cramjam.zstd.decompress((scene.folder / f"{taken.name}.mdb.zst").read_bytes()))
    with view_of(data.parent) as copy, view_of(scene.store) as store:
        assert list(copy.rows()) == list(store.rows())


async def test_store_that_is_damaged_makes_no_snapshot(scene: Scene) -> None:
    file = scene.store / DATA_FILE
    file.write_bytes(file.read_bytes().replace(b"agent-1", b"agent-2"))
    with pytest.raises(Damaged):
        await scene.take()
    assert scene.files() == []


async def test_without_a_store_there_is_no_snapshot(scene: Scene) -> None:
    shutil.rmtree(scene.store)
    with pytest.raises(NoStore):
        await scene.take()


async def test_what_is_stopped_leaves_nothing(scene: Scene) -> None:
    scene.stop.set()
    with pytest.raises(Stopped):
        await scene.take()
    assert scene.files() == []
    assert not list(scene.settings.state_dir.iterdir())


async def test_upload_that_breaks_off_is_no_snapshot_and_is_removed_after_a_day(scene: Scene) -> None:
    first = await scene.take()

    async def torn() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await scene.storage.put_data("20260528T202640Z-00000000", torn)
    (scene.folder / f"{first.name}.json").unlink()  # as if it had been killed before it was written
    (scene.folder / f"{taking.name_at(NOW_MS - 1)}11111111.mdb.zst#1").touch()
    assert await scene.storage.names() == []
    scene.now_ms += 1000
    second = await scene.take()
    assert await prune(scene.storage, second, 5, scene.clock) == []
    assert f"{first.name}.mdb.zst" in scene.files()
    scene.now_ms += 2 * DAY_MS
    await prune(scene.storage, second, 5, scene.clock)
    assert f"{first.name}.mdb.zst" not in scene.files()
    assert f"{second.name}.mdb.zst" in scene.files()


async def test_oldest_snapshots_of_the_same_topics_and_rules_are_removed(scene: Scene) -> None:
    made = []
    for _ in range(4):
        scene.now_ms += 1000
        made.append(await scene.take())
    other_topics = replace(made[0], name="20200101T000000Z-00000000", lineage="elsewhere/")
    older_rules = replace(made[0], name="20200101T000000Z-00000001", fold_version=1)
    newer_rules = replace(made[0], name="20200101T000000Z-00000002", fold_version=999)
    for it in (other_topics, older_rules, newer_rules):
        await scene.storage.put_manifest(it)
    (scene.folder / "20200101T000000Z-00000003.json").write_text("{}")
    (scene.folder / "notes.txt").touch()
    assert await prune(scene.storage, made[-1], 5, scene.clock) == []
    assert await prune(scene.storage, made[-1], 2, scene.clock) == [made[1].name, made[0].name, older_rules.name]
    assert scene.files() == [
        "20200101T000000Z-00000000.json",
        "20200101T000000Z-00000002.json",
        "20200101T000000Z-00000003.json",
        *(f"{it.name}{end}" for it in made[2:] for end in (".json", ".mdb.zst")),
        "notes.txt",
    ]


async def test_newest_of_a_store_is_of_its_topics_and_of_use_here(scene: Scene) -> None:
    assert await newest(scene.storage, scene.store) is None
    older = await scene.take()
    scene.now_ms += 1000
    taken = await scene.take()
    assert await newest(scene.storage, scene.store) == taken
    (scene.folder / f"{taken.name}.json").write_bytes(b"{")
    for number, other in enumerate(({"lineage": "elsewhere/"}, {"fold_version": 1}, {"machine": "big-64"})):
        await scene.storage.put_manifest(replace(older, name=f"20990101T000000Z-0000000{number}", **other))
    assert await newest(scene.storage, scene.store) == older


async def test_manifest_that_was_changed_is_refused(scene: Scene) -> None:
    taken = await scene.take()
    content = encoded(taken)
    assert decoded(taken.name, content) == taken
    for spoilt in (
        content.replace(b'"fold_version":', b'"fold_version": '),
        content.replace(b":3000", b":3001"),
        content[: len(content) // 2],
        b"",
        b"\xff",
        b"[]",
    ):
        with pytest.raises(BadSnapshot):
            decoded(taken.name, spoilt)
    with pytest.raises(BadSnapshot, match="contradicts itself \\(name\\)"):
        decoded("20200101T000000Z-00000000", content)
    with pytest.raises(BadSnapshot, match=r"contradicts itself \(blocks\)"):
        decoded(taken.name, encoded(replace(taken, blocks=[])))
    with pytest.raises(BadSnapshot, match=r"contradicts itself \(sizes\)"):
        decoded(taken.name, encoded(replace(taken, blocks=[10**12] * len(taken.blocks))))
    later = json.loads(content) | {"format": 2}
    with pytest.raises(BadSnapshot, match="its format is 2"):
        decoded(taken.name, json.dumps(later).replace(": ", ":").replace(", ", ",").encode())


async def test_what_another_version_or_machine_wrote_is_not_gone_on_with(scene: Scene) -> None:
    taken = await scene.take()
    assert unreadable_here(taken) is None
    assert "fold version 1" in str(unreadable_here(replace(taken, fold_version=1)))
    assert "format 99" in str(unreadable_here(replace(taken, store_format=99)))
    assert "big-64" in str(unreadable_here(replace(taken, machine="big-64")))


async def test_data_that_are_not_the_manifests_are_refused(scene: Scene) -> None:
    taken = await scene.take()
    data = scene.folder / f"{taken.name}.mdb.zst"
    data.write_bytes(data.read_bytes() + b"x")
    with pytest.raises(BadSnapshot, match="bytes instead of"):
        [_ async for _ in scene.storage.blocks(taken)]
    data.unlink()
    with pytest.raises(BadSnapshot, match="its data are gone"):
        [_ async for _ in scene.storage.blocks(taken)]


async def test_storage_that_is_away_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "ENDPOINT_URL": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    storage = SnapshotStorage.open(load_settings(data_dir=tmp_path, snapshots_url="s3://bucket/prefix"))
    with pytest.raises(StorageAway):
        await storage.names()


def test_wrong_url_is_a_sentence_without_the_url(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, snapshots_url="nonsense://key:secret@host")
    with pytest.raises(SettingsError, match="RINGLOG_SNAPSHOTS_URL is wrong") as raised:
        SnapshotStorage.open(settings)
    assert "secret" not in str(raised.value)


def test_folder_that_is_not_there_is_made_only_to_write_into_it(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "a folder", snapshots_url=(tmp_path / "a folder" / "ü").as_uri())
    assert SnapshotStorage.open_existing(settings) is None
    SnapshotStorage.open(settings)
    assert SnapshotStorage.open_existing(settings) is not None
