"""What the edge sees of a store that another process writes."""

import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from state.fold import FOLD_VERSION
from state.generations import Generations
from state.layout import DAMAGE_MARK, DATA_FILE, STORE_FORMAT, About
from state.open_store import OpenStore, Seen
from state.reader import ProfileReader
from state.slices import Slice
from state.store import ProfileStore
from tests.unit.state.events import Event, ended, fact, prefetched, slices_of

Write = Callable[..., None]


def fold_in(state_dir: Path, log: Sequence[Event], at: int, caught_up: bool, anew: bool, map_bytes: int) -> None:
    generations = Generations(state_dir)
    path = None if anew else generations.serving()
    path = path or generations.begin()
    store = ProfileStore(path, map_bytes=map_bytes)
    store.fold(slices_of(log, at))
    store.set_about(About("cluster/", caught_up, 1))
    store.close()
    generations.swap(path)
    generations.prune()


def fold_partitions(state_dir: Path) -> None:
    generations = Generations(state_dir)
    store = ProfileStore(path := generations.begin())
    store.fold([Slice("calls.ended", number, 100 + number, ()) for number in range(3)])
    store.fold([Slice("callers.facts", number, 200 + number, ()) for number in range(2)])
    store.set_about(About("cluster/", True, 1))
    store.close()
    generations.swap(path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Folds events at an offset into the served generation, or a new one, in another process: LMDB's reader and writer
    must be two."""

    def write(*log: Event, at: int = 0, caught_up: bool = True, anew: bool = False, map_bytes: int = 1 << 30) -> None:
        arguments = (tmp_path, log, at, caught_up, anew, map_bytes)
        child = multiprocessing.get_context("spawn").Process(target=fold_in, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == 0

    return write


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[ProfileReader]:
    reader = ProfileReader(tmp_path)
    yield reader
    reader.close()


def calls_of(reader: ProfileReader, caller: str) -> int | None:
    profile = reader.get(caller)
    return profile.calls if profile else None


def test_reader_finds_a_store_that_appears_later(reader: ProfileReader, write: Write) -> None:
    assert (reader.available, reader.get("ann"), reader.positions()) == (False, None, {})
    write(ended("s", "ann", 5, metadata={"a": 1}), fact("ann", "vip", True))
    assert reader.get("ann") is None
    reader.refresh()
    ann = reader.get("ann")
    assert reader.available
    assert ann is not None
    assert (ann.calls, ann.facts, ann.metadata, ann.first_call_at) == (1, {"vip": True}, {"a": 1}, 5)
    assert reader.positions() == {("calls.ended", 0): 2, ("callers.facts", 0): 2}
    assert reader.get("bob") is None
    write(ended("s2", "ann", 6), at=2)
    assert calls_of(reader, "ann") == 2


@pytest.mark.parametrize("odd", ["", "x" * 600, "\ud800", "ann\0"])
def test_odd_id_is_nobodys(reader: ProfileReader, write: Write, odd: str) -> None:
    write(ended("s", "ann"))
    reader.refresh()
    assert reader.get(odd) is None
    assert reader.available


def test_half_built_store_is_not_served(reader: ProfileReader, write: Write) -> None:
    write(ended("s", "ann"), caught_up=False)
    reader.refresh()
    assert (reader.available, reader.get("ann")) == (False, None)
    write(at=1)
    reader.refresh()
    assert (reader.available, calls_of(reader, "ann")) == (True, 1)


def test_prefetches_alone_make_nobody_known(reader: ProfileReader, write: Write) -> None:
    write(prefetched("s", "ann"))
    reader.refresh()
    assert reader.get("ann") is None


def test_another_generation_is_read_when_it_is_served(reader: ProfileReader, write: Write) -> None:
    write(ended("s", "ann"))
    reader.refresh()
    assert reader.generation == f"g1-v{FOLD_VERSION}"
    write(ended("s", "bob"), anew=True)
    assert calls_of(reader, "ann") == 1  # its files are removed, and read until somebody looks
    reader.refresh()
    assert (calls_of(reader, "ann"), calls_of(reader, "bob"), reader.generation) == (None, 1, f"g2-v{FOLD_VERSION}")


def test_nobody_waits_until_the_old_generation_is_let_go(
    reader: ProfileReader, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To free the blocks of a large deleted file takes long, and whoever closes it last does that."""
    write(ended("s", "ann"))
    reader.refresh()
    close, freed, closed = OpenStore.close, threading.Event(), threading.Event()

    def close_slowly(store: OpenStore) -> None:
        freed.wait(30)
        close(store)
        closed.set()

    monkeypatch.setattr(OpenStore, "close", close_slowly)
    write(ended("s", "bob"), anew=True)
    reader.refresh()
    assert not closed.is_set()
    assert calls_of(reader, "bob") == 1
    freed.set()
    assert closed.wait(30)


def test_generation_that_has_not_caught_up_does_not_replace_one_that_has(reader: ProfileReader, write: Write) -> None:
    write(ended("s", "ann"))
    reader.refresh()
    write(anew=True, caught_up=False)
    reader.refresh()
    assert (reader.available, calls_of(reader, "ann")) == (True, 1)
    assert reader.error == f"g2-v{FOLD_VERSION} has not caught up with the topics yet"
    write(ended("s", "bob"))
    reader.refresh()
    assert (calls_of(reader, "ann"), calls_of(reader, "bob"), reader.error) == (None, 1, None)


def test_unreadable_generation_does_not_replace_the_one_that_is_read(
    reader: ProfileReader, write: Write, tmp_path: Path
) -> None:
    write(ended("s", "ann"))
    reader.refresh()
    write(ended("s", "bob"), anew=True)
    (tmp_path / f"g2-v{FOLD_VERSION}" / DATA_FILE).write_bytes(b"no database" * 10_000)
    reader.refresh()
    assert (reader.available, calls_of(reader, "ann"), reader.generation) == (True, 1, f"g1-v{FOLD_VERSION}")
    assert str(reader.error).startswith(f"g2-v{FOLD_VERSION} can't be read")


def test_unknown_format_is_refused(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(ended("s", "ann"))
    monkeypatch.setattr("state.layout.STORE_FORMAT", STORE_FORMAT + 1)
    reader = ProfileReader(tmp_path)
    assert (reader.available, reader.get("ann")) == (False, None)
    assert reader.error == f"its format is {STORE_FORMAT}, and this version of ringlog reads format {STORE_FORMAT + 1}"
    assert not (tmp_path / f"g1-v{FOLD_VERSION}" / DAMAGE_MARK).exists()
    reader.close()


def test_store_of_other_rules_is_read_and_called_old(reader: ProfileReader, write: Write, tmp_path: Path) -> None:
    write(ended("s", "ann"))
    (tmp_path / f"g1-v{FOLD_VERSION}").rename(tmp_path / f"g1-v{FOLD_VERSION - 1}")
    Generations(tmp_path).swap(tmp_path / f"g1-v{FOLD_VERSION - 1}")
    reader.refresh()
    assert (reader.available, calls_of(reader, "ann"), reader.is_old) == (True, 1, True)


def test_store_that_was_found_damaged_is_not_read(reader: ProfileReader, write: Write, tmp_path: Path) -> None:
    write(ended("s", "ann"))
    (tmp_path / f"g1-v{FOLD_VERSION}" / DAMAGE_MARK).touch()
    reader.refresh()
    assert (reader.available, reader.get("ann")) == (False, None)


def test_deleted_store_is_not_available(reader: ProfileReader, write: Write, tmp_path: Path) -> None:
    write(ended("s", "ann"))
    reader.refresh()
    shutil.rmtree(tmp_path / f"g1-v{FOLD_VERSION}")
    reader.refresh()
    assert (reader.available, reader.get("ann"), reader.positions()) == (False, None, {})
    write(ended("s", "ann"))
    reader.refresh()
    assert calls_of(reader, "ann") == 1


def test_map_that_the_writer_enlarged_is_followed(reader: ProfileReader, write: Write) -> None:
    write(ended("s", "ann"), map_bytes=256 * 1024)
    reader.refresh()
    assert calls_of(reader, "ann") == 1
    many = [ended(f"s{n}", f"caller-{n}", metadata={"text": "x" * 1000}) for n in range(1000)]
    write(*many, at=1, map_bytes=256 * 1024)
    assert calls_of(reader, "caller-999") == 1
    assert calls_of(reader, "ann") == 1
    assert reader.available


def test_spoilt_profile_is_not_served_and_the_builder_is_told(
    reader: ProfileReader, write: Write, tmp_path: Path
) -> None:
    write(ended("s", "ann", agent="agent-7"), ended("s2", "bob", agent="agent-8"))
    file = tmp_path / f"g1-v{FOLD_VERSION}" / DATA_FILE
    file.write_bytes(file.read_bytes().replace(b"agent-7", b"agent-9"))
    reader.refresh()
    assert reader.get("ann") is None
    assert not reader.available
    assert (file.parent / DAMAGE_MARK).exists()
    write(ended("s", "ann", agent="agent-7"), anew=True)
    reader.refresh()
    assert calls_of(reader, "ann") == 1


def test_cut_off_file_is_refused(reader: ProfileReader, write: Write, tmp_path: Path) -> None:
    write(*(ended(f"s{n}", f"caller-{n}", metadata={"text": "x" * 3000}) for n in range(2000)))
    file = tmp_path / f"g1-v{FOLD_VERSION}" / DATA_FILE
    os.truncate(file, file.stat().st_size // 4)
    reader.refresh()
    assert (reader.available, reader.get("caller-1999")) == (False, None)


def test_garbage_is_refused(reader: ProfileReader, write: Write, tmp_path: Path) -> None:
    write(ended("s", "ann"))
    (tmp_path / f"g1-v{FOLD_VERSION}" / DATA_FILE).write_bytes(b"no database" * 10_000)
    reader.refresh()
    assert (reader.available, reader.get("ann")) == (False, None)


def test_a_look_says_how_far_the_very_state_had_come(reader: ProfileReader, write: Write) -> None:
    assert reader.look_up(b"ann", 7) == (None, None)
    write(ended("s", "ann"), fact("ann", "vip", True))
    reader.refresh()
    ann, seen = reader.look_up(b"ann", 7)
    assert (ann and ann.calls, seen) == (1, Seen(2, 2))
    write(ended("s2", "ann"), at=2)
    ann, seen = reader.look_up(b"ann", 7)  # not refreshed since
    assert (ann and ann.calls, seen) == (2, Seen(3, 2))
    assert reader.look_up(b"bob", 8) == (None, Seen(3, 2))


def test_a_look_takes_the_position_of_the_callers_own_partition(reader: ProfileReader, tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=fold_partitions, args=(tmp_path,))
    child.start()
    child.join()
    reader.refresh()
    # The sign bit does not count; three partitions of the one topic, two of the other.
    assert reader.look_up(b"ann", 5)[1] == Seen(102, 201)
    assert reader.look_up(b"ann", 5 | 0x80000000)[1] == Seen(102, 201)
    assert reader.look_up(b"ann", 6)[1] == Seen(100, 200)
