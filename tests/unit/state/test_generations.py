"""Generations: what is served is always one of them, whole, wherever a process dies."""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from state import generations as module
from state.generations import Generations
from state.layout import DAMAGE_MARK, DATA_FILE
from state.lock import StoreBusy
from state.store import ProfileStore

VERSION = 2


def made(generations: Generations) -> Path:
    path = generations.begin()
    ProfileStore(path).close()
    return path


@pytest.fixture
def generations(tmp_path: Path) -> Generations:
    return Generations(tmp_path / "state", VERSION)


def names(generations: Generations, tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state").iterdir() if path.is_dir())


def test_nothing_is_served_at_first(generations: Generations) -> None:
    assert (generations.serving(), generations.unfinished(), generations.offered()) == (None, None, None)
    generations.prune()


def test_generation_is_served_when_it_is_swapped_in(generations: Generations, tmp_path: Path) -> None:
    first = made(generations)
    assert first == tmp_path / "state" / "g1-v2"
    assert (generations.serving(), generations.unfinished()) == (None, first)
    generations.swap(first)
    assert (generations.serving(), generations.unfinished()) == (first, None)
    second = made(generations)
    assert second.name == "g2-v2"
    assert (generations.serving(), generations.unfinished()) == (first, second)
    generations.swap(second)
    assert (generations.serving(), generations.unfinished()) == (second, None)


def test_offer_ends_with_the_swap(generations: Generations) -> None:
    path = made(generations)
    assert generations.offered() is None
    generations.offer(path)
    assert generations.offered() == path
    generations.swap(path)
    assert generations.offered() is None


def test_numbers_are_not_used_again(generations: Generations) -> None:
    generations.swap(made(generations))
    second = made(generations)
    generations.swap(second)
    generations.prune()
    generations.discard(second)
    assert generations.serving() is None
    assert generations.begin().name == "g3-v2"


def test_unfinished_one_is_newer_and_of_the_same_rules(generations: Generations, tmp_path: Path) -> None:
    generations.swap(made(generations))
    (tmp_path / "state" / "g9-v3").mkdir()
    assert generations.unfinished() is None
    assert generations.begin().name == "g10-v2"
    newer = Generations(tmp_path / "state", 3)
    assert newer.unfinished() == tmp_path / "state" / "g9-v3"
    assert newer.serving() == tmp_path / "state" / "g1-v2"
    assert not newer.is_ours(tmp_path / "state" / "g1-v2")


@pytest.mark.parametrize("said", ["", "g1-v2x", "../g1-v2", "g0-v2", "g7-v2", "\xff"])
def test_current_that_names_no_generation_serves_nothing(generations: Generations, tmp_path: Path, said: str) -> None:
    generations.swap(made(generations))
    (tmp_path / "state" / "current").write_text(said)
    assert generations.serving() is None


def test_folder_without_a_store_is_not_served(generations: Generations) -> None:
    path = made(generations)
    generations.swap(path)
    (path / DATA_FILE).unlink()
    assert generations.serving() is None


def test_prune_keeps_what_is_served_or_unfinished_or_written(generations: Generations, tmp_path: Path) -> None:
    written = ProfileStore(generations.begin())
    for _ in range(2):
        generations.swap(made(generations))
    (tmp_path / "state" / "g2-v2.removed").mkdir()
    (tmp_path / "state" / "profiles-v2").mkdir()
    (tmp_path / "state" / "scratch-1").mkdir()  # somebody else's
    made(generations)
    generations.prune()
    assert names(generations, tmp_path) == ["g1-v2", "g3-v2", "g4-v2", "scratch-1"]
    written.close()
    generations.prune()
    assert names(generations, tmp_path) == ["g3-v2", "g4-v2", "scratch-1"]


def test_store_that_is_written_is_not_discarded(generations: Generations) -> None:
    store = ProfileStore(generations.begin())
    with pytest.raises(StoreBusy, match=str(os.getpid())):
        generations.discard(store.path)
    store.close()
    generations.discard(store.path)
    generations.discard(store.path)
    assert generations.unfinished() is None


def test_one_builds_and_one_rebuilds(generations: Generations) -> None:
    with generations.building(), generations.rebuilding():
        with pytest.raises(StoreBusy, match="builds the profiles"):
            generations.building()
        with pytest.raises(StoreBusy, match="builds a new generation"):
            generations.rebuilding()
    with generations.building(), generations.rebuilding():
        pass


def work(state_dir: Path) -> None:
    """All that changes a state directory: a new generation is made, offered, served, and the old one removed."""
    generations = Generations(state_dir, VERSION)
    path = generations.unfinished() or generations.begin()
    ProfileStore(path).close()
    generations.offer(path)
    generations.swap(path)
    generations.prune()


def killed_at(line: int, job: Callable[[Path], None], state_dir: Path) -> None:
    """Ends this process before the `line`th line that `job` comes to, of the generations or of what removes trees."""
    left = line

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in (module.__file__, shutil.__file__):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os._exit(9)
        return trace

    sys.settrace(trace)
    job(state_dir)
    sys.settrace(None)
    os._exit(0)


def is_survived(line: int, job: Callable[[Path], None], state_dir: Path) -> bool:
    """Whether `job` came to its end before the `line`th line."""
    fork = multiprocessing.get_context("fork")  # a hundred new interpreters would take minutes
    child = fork.Process(target=killed_at, args=(line, job, state_dir))
    child.start()
    child.join()
    return child.exitcode == 0


def test_something_whole_is_served_wherever_a_process_is_killed(tmp_path: Path) -> None:
    for line in count(1):
        generations = Generations(tmp_path / str(line), VERSION)
        first = made(generations)
        generations.swap(first)
        ended_well = is_survived(line, work, tmp_path / str(line))
        serving = generations.serving()
        assert serving is not None
        assert serving.name in ("g1-v2", "g2-v2")
        ProfileStore(serving).close()
        assert (generations.unfinished() or tmp_path / "g2-v2").name == "g2-v2"
        work(tmp_path / str(line))  # and what comes after ends well
        assert generations.unfinished() is None
        after = generations.serving()
        assert after is not None
        assert after.name in ("g2-v2", "g3-v2")
        assert [path.name for path in (tmp_path / str(line)).iterdir() if path.is_dir()] == [after.name]
        if ended_well:
            break
    assert line > 40


def discard(state_dir: Path) -> None:
    generations = Generations(state_dir, VERSION)
    serving = generations.serving()
    assert serving is not None
    generations.discard(serving)


def test_damaged_store_stays_marked_until_it_is_gone_wherever_a_process_is_killed(tmp_path: Path) -> None:
    for line in count(1):
        generations = Generations(tmp_path / str(line), VERSION)
        path = made(generations)
        (path / DAMAGE_MARK).touch()
        generations.swap(path)
        ended_well = is_survived(line, discard, tmp_path / str(line))
        serving = generations.serving()
        assert serving is None or (serving / DAMAGE_MARK).exists()
        assert generations.unfinished() is None
        generations.prune()
        assert [path for path in (tmp_path / str(line)).iterdir() if path.is_dir()] == ([serving] if serving else [])
        if ended_well:
            break
    assert line > 10
