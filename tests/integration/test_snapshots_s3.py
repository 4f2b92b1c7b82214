"""Snapshots in a real S3: written in parts, listed, removed, restored; and what is left of one that breaks off."""

import asyncio
import base64
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import obstore
import pytest
from obstore.store import ObjectStore, from_url

from consumers.object_store import StorageAway
from consumers.snapshots.storage import SnapshotStorage
from consumers.snapshots.taking import prune, take
from consumers.stopping import Stopped
from runtime.clock import system_clock
from runtime.settings import Settings, load_settings
from state.generations import FROM_SNAPSHOT
from state.layout import About
from state.store import ProfileStore
from tests.building import building, dump_of, eventually, folded_afresh, seen, send, served, some_events
from tests.integration.state_command import state
from tests.snapshots import built, lose_the_store, snapshot_of
from tests.sources.origin import require
from tests.sources.s3 import BUCKET, Gateway, aws_variables, own_gateway
from tests.unit.state.events import ended, slices_of

pytestmark = pytest.mark.s3

SEED = random.Random(1)
# What can't be compressed to less than three quarters of it: 2000 times 8 kB are three parts, and four blocks.
LARGE = [
    ended(f"s{n}", f"caller-{n % 500}", n, metadata={"noise": base64.b64encode(SEED.randbytes(6000)).decode()})
    for n in range(2000)
]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A server that the test may stop, and whose folder it may look into."""
    with ExitStack() as stack:
        gateway = require(own_gateway(), stack)
        for name, value in aws_variables(gateway.address).items():
            monkeypatch.setenv(name, value)
        yield gateway


def objects(url: str) -> dict[str, int]:
    store: ObjectStore = from_url(url)
    return {it["path"]: it["size"] for page in obstore.list(store) for it in page}


def unfinished(gateway: Gateway) -> list[Path]:
    """Parts of uploads that nobody completed, where versitygw keeps them."""
    return [it for it in (gateway.folder / BUCKET / ".sgwtmp" / "multipart").rglob("*") if it.is_file()]


def large_store(path: Path) -> Path:
    store = ProfileStore(path)
    store.fold(slices_of(LARGE))
    store.set_about(About("cluster/", True, 1_780_000_000_000))
    store.close()
    return path


async def test_snapshot_of_several_parts_is_whole_under_the_prefix(s3: str, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, snapshots_url=s3)
    storage = SnapshotStorage.open(settings)
    store, stop = large_store(tmp_path / "store"), asyncio.Event()
    taken = await take(storage, store, settings.state_room, stop, lambda *_: None, system_clock)
    assert taken.compressed_bytes > 10 * 1024 * 1024
    assert len(taken.blocks) > 3
    there = objects(s3)
    assert set(there) == {f"{taken.name}.json", f"{taken.name}.mdb.zst"}
    assert there[f"{taken.name}.mdb.zst"] == taken.compressed_bytes
    assert await storage.manifest(taken.name) == taken
    assert [len(block) async for block in storage.blocks(taken)] == taken.blocks
    await asyncio.sleep(1.0)
    second = await take(storage, store, settings.state_room, stop, lambda *_: None, system_clock)
    assert await prune(storage, second, 1, system_clock) == [taken.name]
    assert set(objects(s3)) == {f"{second.name}.json", f"{second.name}.mdb.zst"}


@pytest.mark.usefixtures("topics")
async def test_builder_without_a_store_starts_from_s3(settings: Settings, s3: str, tmp_path: Path) -> None:
    in_s3 = settings.model_copy(update={"snapshots_url": s3})
    await send(settings, *some_events(200, 1))
    async with building(in_s3) as builder:
        await eventually(lambda: seen(builder) == 200)
        made = await state(settings, "snapshot", "--json", SNAPSHOTS_URL=s3)
    assert made.code == 0, made.said
    listed = await state(settings, "snapshots", "--json", SNAPSHOTS_URL=s3)
    assert [it["name"] for it in listed.json] == [made.json["snapshot"]["name"]]
    lose_the_store(settings)
    await send(settings, *some_events(100, 2))
    assert await built(in_s3, 300) == 100
    assert (served(settings) / FROM_SNAPSHOT).exists()
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


@pytest.mark.usefixtures("topics")
async def test_s3_that_lost_a_part_of_the_data_is_gone_past(settings: Settings, gateway: Gateway) -> None:
    in_s3 = settings.model_copy(update={"snapshots_url": f"s3://{BUCKET}/prefix"})
    await send(settings, *some_events(200, 3))
    await built(in_s3, 200)
    taken = await snapshot_of(in_s3)
    data = gateway.folder / BUCKET / "prefix" / f"{taken.name}.mdb.zst"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    lose_the_store(settings)
    assert await built(in_s3, 200) == 200
    assert not (served(settings) / FROM_SNAPSHOT).exists()


async def test_upload_that_is_stopped_leaves_nothing_in_s3(gateway: Gateway, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, snapshots_url=f"s3://{BUCKET}/prefix")
    storage, stop = SnapshotStorage.open(settings), asyncio.Event()

    def tell(what: str, done: int, _total: int) -> None:
        if what == "Uploading" and done > 8 * 1024 * 1024:
            stop.set()

    with pytest.raises(Stopped):
        await take(storage, large_store(tmp_path / "store"), settings.state_room, stop, tell, system_clock)
    assert objects(settings.snapshots) == {}
    await eventually(lambda: unfinished(gateway) == [])


async def test_s3_that_goes_away_is_said_so_and_there_is_no_snapshot(gateway: Gateway, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, snapshots_url=f"s3://{BUCKET}/prefix")
    storage, stop = SnapshotStorage.open(settings), asyncio.Event()

    def tell(what: str, done: int, _total: int) -> None:
        if what == "Uploading" and done > 8 * 1024 * 1024:
            gateway.stop()

    with pytest.raises(StorageAway):
        await take(storage, large_store(tmp_path / "store"), settings.state_room, stop, tell, system_clock)
    gateway.start()
    assert await storage.names() == []
    assert [path.name for path in settings.state_dir.iterdir()] == []
