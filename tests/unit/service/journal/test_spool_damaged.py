"""A damaged spool is set aside, never overwritten, and kills nobody; what is sound of it is in the new one."""

import functools
import os
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from schemas.partition import murmur2
from schemas.topics import CALLERS_FACTS
from service.journal.check import check
from service.journal.layout import DATA_FILE
from service.journal.sealed import MAGIC, length_of_frame, seq_key
from service.journal.spool import Spool, SpoolDamaged
from tests.unit.service.journal.spooled import MAX_BYTES, entry, fill, numbers, set_aside

PAGE = 4096


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A spool of which every page is in use or was: large and small events, deleted ones, a refused one."""
    directory = tmp_path / "small" / "spool"
    spool = Spool(directory, MAX_BYTES)
    fill(spool, range(8), size=300)
    fill(spool, [8, 9])
    fill(spool, [10], size=9000)
    spool.commit(delete=[2, 9], refuse=[(4, "no")])
    fill(spool, [11], size=1500)
    spool.close()
    file = directory / DATA_FILE
    os.truncate(file, _used(file.read_bytes()))
    return directory


def _used(content: bytes) -> int:
    """Without the room that was made for later."""
    return -(-len(content.rstrip(b"\0")) // PAGE) * PAGE


LEFT = {0, 2, 3, 4, 5, 6, 7, 9, 10, 11}  # of `small`; 1 and 8 were deleted, and 3 is refused
REFUSED = {3}


def _in_a_child(work: Callable[[], None]) -> int:
    """Its exit code, or the signal that killed it, negative. Forked: LMDB is only opened there."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _frames(content: bytes) -> Iterator[tuple[int, int]]:
    at = content.find(MAGIC)
    while at >= 0:
        length = length_of_frame(content[at : at + 16])
        yield at, at + (length or 0)
        at = content.find(MAGIC, at + 1)


def _open_and_use(directory: Path, damaged: bytes, hurt: range) -> None:
    """What must hold whatever was damaged: runs in the child."""
    spool = Spool(directory, MAX_BYTES)
    try:
        there = set(numbers(spool)) | set(_refused(spool))
        if spool.set_aside is None:
            assert there == LEFT
            assert set(_refused(spool)) == REFUSED
            assert set_aside(directory) == []
        else:
            assert [spool.set_aside.path] == set_aside(directory)
            assert (spool.set_aside.path / DATA_FILE).read_bytes() == damaged
            assert spool.set_aside.reason
            assert spool.set_aside.restored == len(list(spool.waiting())) + len(list(spool.refused()))
            # Whose frame was hit, in each of its copies; a deleted one may be there again.
            lost = LEFT - there
            assert len(lost) <= 1, lost
            if lost:
                assert any(start <= at < end for at in hurt for start, end in _frames(damaged)), lost
        fill(spool, [100, 101])
        spool.commit(delete=[waiting.seq for waiting in spool.waiting()][:-1])
        assert numbers(spool) == [101]
    finally:
        spool.close()
    again = Spool(directory, MAX_BYTES)
    assert again.set_aside is None
    assert numbers(again) == [101]
    again.close()


def _refused(spool: Spool) -> list[int]:
    before = {waiting.seq for waiting in spool.waiting()}
    refused = [one.seq for one in spool.refused()]
    assert not before & set(refused)
    return [seq - 1 for seq in refused]  # the fixture's numbers begin with 0, sequence numbers with 1


def _damage_each(small: Path, places: Iterable[int], change: Callable[[int], int]) -> list[int]:
    """Of each variant: 1 when it was set aside."""
    sound = (small / DATA_FILE).read_bytes()
    outcomes = []
    for at in places:
        damaged = bytearray(sound)
        damaged[at] = change(damaged[at])
        base = small.parent.with_name("variant")
        shutil.copytree(small.parent, base)
        directory = base / "spool"
        (directory / DATA_FILE).write_bytes(damaged)
        use = functools.partial(_open_and_use, directory, bytes(damaged), range(at, at + 1))
        assert _in_a_child(use) == 0, f"byte {at} of {len(sound)}"
        outcomes.append(len(set_aside(directory)))
        shutil.rmtree(base)
    return outcomes


def test_a_flipped_byte_anywhere_kills_nobody_and_costs_at_most_the_event_it_is_in(small: Path) -> None:
    """What is found to be damaged, `test_check` asks for thousands of bytes; this is about what becomes of it then."""
    size = (small / DATA_FILE).stat().st_size
    places = [144, PAGE + 128, *range(2 * PAGE, size, 8803)]
    outcomes = _damage_each(small, places, lambda byte: byte ^ 0xFF)
    assert 0 < sum(outcomes) < len(outcomes)  # both were seen: damage that matters, and damage that does not


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0xFF, 0x04])
def test_a_flipped_byte_at_many_places(small: Path, mask: int) -> None:
    size = (small / DATA_FILE).stat().st_size
    # Where commits begin, and once or twice in every page of the rest.
    places = [*range(17, 168, 29), *range(PAGE + 24, PAGE + 168, 24), *range(2 * PAGE, size, 2801)]
    outcomes = _damage_each(small, places, lambda byte: byte ^ mask)
    assert 0 < sum(outcomes) < len(outcomes)


@pytest.mark.parametrize("bit", range(8))
def test_a_wrong_bit_in_the_number_of_a_commit_does_not_undo_it(small: Path, bit: int) -> None:
    """LMDB would take the commit before it for the last: sound in itself, and an event short."""
    number_at = 144  # in either of the first two pages: `mm_txnid`
    sound = (small / DATA_FILE).read_bytes()
    for at in (number_at, number_at + 1, PAGE + number_at, PAGE + number_at + 1):
        damaged = bytearray(sound)
        damaged[at] ^= 1 << bit
        (small / DATA_FILE).write_bytes(damaged)
        with pytest.raises(SpoolDamaged):
            check(small)


@pytest.mark.parametrize("length", [1, 100, PAGE, PAGE + 200, 2 * PAGE, 5 * PAGE, -PAGE, -1])
def test_a_truncated_file_is_set_aside_and_what_is_left_of_it_restored(small: Path, length: int) -> None:
    file = small / DATA_FILE
    content = file.read_bytes()[:length]
    os.truncate(file, len(content))
    whole = {number for number in LEFT if _is_in(content, number)}

    def work() -> None:
        spool = Spool(small, MAX_BYTES)
        there = set(numbers(spool)) | set(_refused(spool))
        assert there >= whole
        assert there - {1, 8} == whole
        spool.close()

    assert _in_a_child(work) == 0
    assert [(aside / DATA_FILE).read_bytes() for aside in set_aside(small)] == [content]


def test_free_pages_at_the_end_may_be_missing(directory: Path) -> None:
    spool = Spool(directory, MAX_BYTES)
    fill(spool, range(10))
    fill(spool, [10], size=100 * PAGE)
    spool.commit(delete=[11])
    for seq in range(1, 6):  # each begins in a page that an earlier one has left
        spool.commit(delete=[seq])
    spool.close()
    os.truncate(directory / DATA_FILE, 50 * PAGE)
    spool = Spool(directory, MAX_BYTES)
    assert spool.set_aside is None
    assert numbers(spool) == list(range(5, 10))
    fill(spool, range(100, 200))
    assert numbers(spool) == [*range(5, 10), *range(100, 200)]
    spool.close()


def _is_in(content: bytes, number: int) -> bool:
    return _value(number, _SIZES.get(number, 300)) in content


def _value(number: int, size: int = 3000) -> bytes:
    value = entry(number, size).value
    assert value is not None
    return value


_SIZES = {8: 3000, 9: 3000, 10: 9000, 11: 1500}


def test_a_file_of_no_length_is_a_new_spool(directory: Path) -> None:
    """Whoever made it was killed before the first byte; and were it cut off, nothing is left to restore."""
    directory.mkdir()
    (directory / DATA_FILE).touch()
    spool = Spool(directory, MAX_BYTES)
    assert spool.set_aside is None
    fill(spool, [1])
    spool.close()


def test_a_directory_in_the_place_of_the_file_is_set_aside(directory: Path) -> None:
    (directory / DATA_FILE / "something").mkdir(parents=True)
    _set_aside_as_it_is(directory, lambda aside: (aside / DATA_FILE / "something").is_dir())


def test_a_file_in_the_place_of_the_directory_is_set_aside(directory: Path) -> None:
    directory.write_text("something")
    _set_aside_as_it_is(directory, lambda aside: aside.read_text() == "something")


def _set_aside_as_it_is(directory: Path, is_it: Callable[[Path], bool]) -> None:
    spool = Spool(directory, MAX_BYTES)
    assert spool.set_aside is not None
    assert spool.set_aside.reason == "there is something else in its place"
    assert is_it(spool.set_aside.path)
    fill(spool, [1])
    assert numbers(spool) == [1]
    spool.close()


def test_one_set_aside_in_the_same_second_takes_nobodys_place(directory: Path) -> None:
    for content in (b"first", b"second", b"third"):
        directory.mkdir(exist_ok=True)
        (directory / DATA_FILE).write_bytes(content)
        Spool(directory, MAX_BYTES, clock=lambda: 1_700_000_000_000_000).close()
    assert [path.name for path in set_aside(directory)] == [
        "spool.damaged-20231114T221320Z",
        "spool.damaged-20231114T221320Z-2",
        "spool.damaged-20231114T221320Z-3",
    ]
    assert [(path / DATA_FILE).read_bytes() for path in set_aside(directory)] == [b"first", b"second", b"third"]


def test_facts_of_callers_are_counted_not_restored(directory: Path) -> None:
    spool = Spool(directory, MAX_BYTES)
    fill(spool, [1])
    spool.commit([(2, entry(2, topic=CALLERS_FACTS)), (3, entry(3, topic=CALLERS_FACTS)), (4, entry(4))])
    spool.close()
    _break(directory)
    again = Spool(directory, MAX_BYTES)
    assert again.set_aside is not None
    assert (again.set_aside.restored, again.set_aside.facts) == (2, 2)
    assert numbers(again) == [1, 4]
    assert again.next_seq == 5
    again.close()


def _break(directory: Path) -> None:
    """Where the last two commits begin."""
    with (directory / DATA_FILE).open("r+b") as file:
        file.write(b"\xff" * 2 * PAGE)


def test_killed_while_it_is_restored_it_starts_over(small: Path) -> None:
    _break(small)
    half = small.with_name("spool.restoring")
    half.mkdir()
    (half / DATA_FILE).write_bytes(b"half of something")
    spool = Spool(small, MAX_BYTES)
    assert set(numbers(spool)) | set(_refused(spool)) >= LEFT
    assert not half.exists()
    spool.close()


def test_killed_between_the_two_names_it_goes_on(small: Path) -> None:
    small.rename(small.with_name("spool.restoring"))
    spool = Spool(small, MAX_BYTES)
    assert set(numbers(spool)) == LEFT - REFUSED
    assert not small.with_name("spool.restoring").exists()
    spool.close()


def test_what_is_found_to_be_damaged_while_it_is_open_is_said(directory: Path) -> None:
    spool = Spool(directory, MAX_BYTES)
    fill(spool, [1, 2])
    file = directory / DATA_FILE
    content = file.read_bytes()
    value = entry(1).value
    assert value is not None
    with file.open("r+b") as opened:
        opened.seek(content.index(value) + 5)
        opened.write(b"\0\0\0")
    with pytest.raises(SpoolDamaged, match="an event does not match its checksum"):
        spool.read([2, 1])
    assert spool.read([2]) == [entry(2)]
    spool.close()
    again = Spool(directory, MAX_BYTES)
    assert again.set_aside is not None
    assert again.set_aside.reason == "an event does not match its checksum"
    assert numbers(again) == [2]
    again.close()


def test_a_page_that_is_none_any_more_is_said_whatever_is_done(directory: Path) -> None:
    spool = Spool(directory, MAX_BYTES)
    fill(spool, [1, 2])
    file = directory / DATA_FILE
    content = file.read_bytes()
    with file.open("r+b", buffering=0) as opened:
        for page in range(2 * PAGE, len(content), PAGE):
            if content[page + 10 : page + 12] == b"\2\0":  # it says that keys are in it
                os.pwrite(opened.fileno(), b"\xfd", page + 10)
    for work in (lambda: spool.read([1]), lambda: fill(spool, [3]), lambda: list(spool.waiting())):
        with pytest.raises(SpoolDamaged):
            work()
    spool.close()
    again = Spool(directory, MAX_BYTES)
    assert len(set_aside(directory)) == 1
    assert numbers(again) == [1, 2]
    again.close()


def test_an_event_that_lies_where_another_one_should_is_not_taken_for_it(directory: Path) -> None:
    spool = Spool(directory, MAX_BYTES)
    fill(spool, [1, 2])
    file = directory / DATA_FILE
    key = seq_key(2) + murmur2(b"caller-2").to_bytes(4, "big") + b"calls.ended"
    content = file.read_bytes()
    file.write_bytes(content.replace(key, seq_key(2) + bytes(4) + b"calls.ended"))
    with pytest.raises(SpoolDamaged, match="event 2 lies where another one should"):
        spool.read([1, 2])
    spool.close()
    again = Spool(directory, MAX_BYTES)
    assert again.set_aside is not None
    assert again.set_aside.reason == "an event does not match its checksum"  # which holds for its place, too
    assert numbers(again) == [1, 2]
    again.close()


def test_a_check_that_could_not_be_made_sets_nothing_aside(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(OSError, match=r"could not be checked \(exit code 1\)"):
        Spool(small, MAX_BYTES)
    assert set_aside(small) == []
    monkeypatch.undo()
    spool = Spool(small, MAX_BYTES)
    assert set(numbers(spool)) == LEFT - REFUSED
    spool.close()
