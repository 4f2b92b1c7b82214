"""The store: what survives which accident."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from state.layout import DAMAGE_MARK, DATA_FILE, STORE_FORMAT, About, Damaged
from state.lock import StoreBusy
from state.store import ProfileStore
from tests.unit.state.events import ended, slices_of

ABOUT = About("cluster/", True, 1)
CALLS = [ended(f"s{n}", f"caller-{n % 50}", n, ts=n + 1, metadata={"text": "x" * 200}) for n in range(2000)]


def filled(path: Path) -> list[tuple[str, bytes, bytes]]:
    store = ProfileStore(path)
    store.fold(slices_of(CALLS))
    store.set_about(ABOUT)
    dump = list(store.dump())
    store.close()
    return dump


def test_store_is_as_it_was_when_opened_again(tmp_path: Path) -> None:
    dump = filled(tmp_path)
    store = ProfileStore(tmp_path)
    assert list(store.dump()) == dump
    assert store.about() == ABOUT
    assert store.positions() == {("calls.ended", 0): 2000}
    assert store.size()[1] == 50
    store.close()


def test_map_grows_when_a_batch_does_not_fit(tmp_path: Path) -> None:
    dump = filled(tmp_path / "large")
    store = ProfileStore(tmp_path / "small", map_bytes=64 * 1024)
    store.fold(slices_of(CALLS))
    assert list(store.dump()) == dump
    store.close()


def test_failed_batch_leaves_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    store = ProfileStore(tmp_path)
    dump = list(store.dump())
    good = slices_of([ended("new", "caller-1")], 2000)
    broken = slices_of([ended("newer", "caller-1")])[0]
    with pytest.raises(AttributeError):
        store.fold([*good, type(broken)("calls.ended", 1, 1, [object()])])  # type: ignore[list-item]
    assert list(store.dump()) == dump
    store.close()


def test_second_writer_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    with pytest.raises(StoreBusy, match=str(os.getpid())):
        ProfileStore(tmp_path)
    store.close()
    ProfileStore(tmp_path).close()


def test_store_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    script = "import os, sys; from pathlib import Path; from state.store import ProfileStore\n"
    script += "s = ProfileStore(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"open\n"
    with pytest.raises(StoreBusy, match=str(other.pid)):
        ProfileStore(tmp_path)
    other.kill()
    other.communicate()
    ProfileStore(tmp_path).close()


def _garbage(file: Path) -> None:
    file.write_bytes(b"no database" * 10_000)


def _half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 4)


def _marked(file: Path) -> None:
    (file.parent / DAMAGE_MARK).touch()


def _of_another_format(file: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("state.store.STORE_FORMAT", STORE_FORMAT + 1)
        patch.setattr("state.layout.STORE_FORMAT", STORE_FORMAT + 1)
        shutil.rmtree(file.parent)
        filled(file.parent)


@pytest.mark.parametrize("spoil", [_garbage, _half, _marked, _of_another_format])
def test_damaged_store_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    filled(tmp_path / "store")
    spoil(tmp_path / "store" / DATA_FILE)
    before = sorted(path.name for path in (tmp_path / "store").iterdir())
    for _ in range(2):  # and its lock is free again
        with pytest.raises(Damaged):
            ProfileStore(tmp_path / "store")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == before


def test_flipped_bit_in_a_profile_is_found_when_it_is_folded_on(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / DATA_FILE
    content = file.read_bytes()
    spoilt = content.replace(b"agent-1", b"agent-2")
    assert spoilt != content
    file.write_bytes(spoilt)
    store = ProfileStore(tmp_path)
    with pytest.raises(Damaged):
        store.fold(slices_of([ended("new", "caller-1")]))
    store.close()


def test_deleted_files_are_noticed(tmp_path: Path) -> None:
    filled(tmp_path)
    store = ProfileStore(tmp_path)
    store.check()
    shutil.rmtree(store.path)
    with pytest.raises(Damaged):
        store.check()
    store.close()
