"""What is put into the spool is there, in its order, until it is deleted or refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.partition import murmur2
from schemas.topics import CALLERS_FACTS, CALLS_PREFETCH, Topic
from service.journal.entry import Entry
from service.journal.spool import Refused, Spool, SpoolBusy, SpoolDamaged, SpoolFull, Waiting
from tests.unit.service.journal.spooled import MAX_BYTES, entry, fill, numbers

HOLDER = """
import sys
from pathlib import Path
from service.journal.spool import Spool
spool = Spool(Path(sys.argv[1]), 1 << 20)
print("open", flush=True)
sys.stdin.read()
"""

DATA_FILE = "data.mdb"
MIB = 1024 * 1024


def test_what_is_put_is_there_when_it_is_opened_again(directory: Path) -> None:
    first = Spool(directory, MAX_BYTES)
    fact = Entry(CALLERS_FACTS, b"caller", b"caller/name", None, [])
    first.commit([(1, entry(1)), (2, fact), (3, entry(3, size=0, topic=CALLS_PREFETCH))])
    assert first.next_seq == 4
    first.close()

    again = Spool(directory, MAX_BYTES)
    assert again.set_aside is None
    assert again.next_seq == 4
    assert again.read([1, 2, 3]) == [entry(1), fact, entry(3, size=0, topic=CALLS_PREFETCH)]
    again.close()


def test_what_waits_is_told_without_its_values(spool: Spool) -> None:
    fill(spool, [5, 6])
    found = list(spool.waiting())
    assert [(one.seq, one.topic, one.hash) for one in found] == [
        (1, "calls.ended", murmur2(b"caller-5")),
        (2, "calls.ended", murmur2(b"caller-6")),
    ]
    assert all(isinstance(one, Waiting) and 3000 < one.size < 3200 for one in found)


def test_what_waits_comes_in_the_order_of_its_numbers_however_much_it_is(spool: Spool) -> None:
    for start in range(0, 2500, 500):
        fill(spool, range(start, start + 500), size=10)
    assert numbers(spool) == list(range(2500))


def test_a_walk_over_what_waits_is_not_disturbed_by_commits(spool: Spool) -> None:
    fill(spool, range(1500), size=10)
    walk = spool.waiting()
    first = next(walk)
    spool.commit(delete=range(2, 1502))
    assert [first.seq, *(one.seq for one in walk)] == list(range(1, 1001))  # a look of a thousand, then nothing is left


def test_what_is_deleted_is_gone_and_its_number_is_not_used_again(directory: Path) -> None:
    spool = Spool(directory, MAX_BYTES)
    fill(spool, [1, 2, 3])
    spool.commit(delete=[1, 3])
    spool.commit(delete=[1, 99])  # not there: no error
    assert numbers(spool) == [2]
    spool.commit(delete=[2])
    spool.close()
    again = Spool(directory, MAX_BYTES)
    assert again.next_seq == 4
    again.close()


def test_a_commit_is_all_or_nothing(spool: Spool) -> None:
    fill(spool, [1])
    with pytest.raises(SpoolDamaged, match="event 77 is not in the spool"):
        spool.commit([(2, entry(2))], delete=[1], refuse=[(77, "it is not there")])
    assert numbers(spool) == [1]
    assert spool.next_seq == 2
    fill(spool, [3])
    assert numbers(spool) == [1, 3]


def test_what_is_not_there_can_not_be_read(spool: Spool) -> None:
    with pytest.raises(SpoolDamaged, match="event 5 is not in the spool"):
        spool.read([5])


def test_what_is_refused_lies_in_its_corner_and_waits_again_behind_the_others(directory: Path) -> None:
    spool = Spool(directory, MAX_BYTES, clock=lambda: 1_700_000_000_000_000)
    fill(spool, [1, 2, 3])
    spool.commit([(4, entry(4))], refuse=[(1, "too large: \ud800"), (4, "no such topic")])
    assert numbers(spool) == [2, 3]
    sizes = [refused.size for refused in spool.refused()]
    assert list(spool.refused()) == [
        Refused(1, "calls.ended", "too large: ?", 1_700_000_000_000_000, sizes[0]),
        Refused(4, "calls.ended", "no such topic", 1_700_000_000_000_000, sizes[1]),
    ]
    spool.close()

    again = Spool(directory, MAX_BYTES)
    assert again.readmit() == 2
    assert numbers(again) == [2, 3, 1, 4]
    assert [one.seq for one in again.waiting()] == [2, 3, 5, 6]
    assert list(again.refused()) == []
    assert again.readmit() == 0
    again.close()


def test_an_event_of_a_topic_that_nobody_knows_is_refused_not_lost(directory: Path) -> None:
    unknown = Topic(name="calls.foreseen", key="caller", owner="service", about="of a later ringlog")
    spool = Spool(directory, MAX_BYTES)
    spool.commit([(1, entry(1)), (2, entry(2, topic=unknown))])
    spool.close()

    again = Spool(directory, MAX_BYTES)
    assert numbers(again) == [1]
    assert [(one.seq, one.topic, one.reason) for one in again.refused()] == [
        (2, "calls.foreseen", "there is no topic calls.foreseen")
    ]
    assert again.readmit() == 0
    assert len(list(again.refused())) == 1
    again.close()


def test_a_second_process_is_told_who_has_it_and_gets_it_when_that_one_is_killed(directory: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(SpoolBusy, match=f"process {holder.pid} has the spool in {directory}"):
            Spool(directory, MAX_BYTES)
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    Spool(directory, MAX_BYTES).close()


def test_a_spool_that_is_as_large_as_it_may_be_says_so_and_can_still_be_emptied(directory: Path) -> None:
    spool = Spool(directory, max_bytes=0)  # what is left then is the tree's own spare room
    seqs: list[int] = []
    for size in (4 * MIB, 100_000, 3000, 10):
        with pytest.raises(SpoolFull, match="as large as it may be"):
            while True:
                seqs += fill(spool, [len(seqs)], size)
    assert len(seqs) > 10
    assert numbers(spool) == list(range(len(seqs)))
    spool.commit(delete=seqs[:1])
    spool.commit(delete=seqs[1:])
    assert numbers(spool) == []
    fill(spool, [1], 4 * MIB)
    assert numbers(spool) == [1]
    spool.close()


def test_a_smaller_limit_does_not_lock_what_is_there(directory: Path) -> None:
    large = Spool(directory, 128 * MIB)
    for number in range(24):
        fill(large, [number], 4 * MIB)
    large.close()
    small = Spool(directory, MIB)
    assert numbers(small) == list(range(24))
    small.commit(delete=range(1, 25))
    assert numbers(small) == []
    small.close()


def test_a_large_file_does_not_stay_when_nothing_is_in_it(directory: Path) -> None:
    spool = Spool(directory, 128 * MIB)
    for number in range(18):
        fill(spool, [number], 4 * MIB)
    spool.commit(delete=range(1, 18))
    spool.close()
    with_one = Spool(directory, 128 * MIB)
    assert numbers(with_one) == [17]
    with_one.commit(delete=[18])
    with_one.close()
    assert (directory / DATA_FILE).stat().st_size > 64 * MIB

    empty = Spool(directory, 128 * MIB)
    assert (directory / DATA_FILE).stat().st_size < MIB
    fill(empty, [1])
    assert numbers(empty) == [1]
    empty.close()


def test_nobody_else_may_read_it(directory: Path, spool: Spool) -> None:
    fill(spool, [1])
    assert directory.stat().st_mode & 0o077 == 0
    assert (directory / DATA_FILE).stat().st_mode & 0o077 == 0
    assert os.listdir(directory) == [DATA_FILE]  # noqa: PTH208
