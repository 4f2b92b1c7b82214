"""Whatever else is in a file, the frames that are whole are found, and a spool is made of them."""

import random
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from schemas.partition import murmur2
from schemas.topics import CALLERS_FACTS, CALLS_ENDED
from service.journal.restored import Restored, restore
from service.journal.salvage import frame_at, frames_in
from service.journal.sealed import MAGIC, SealedEvent, seal
from service.journal.spool import Spool
from tests.unit.service.journal.spooled import MAX_BYTES

MIB = 1024 * 1024


def event(seq: int, value: bytes = b"{}", topic: str = CALLS_ENDED.name) -> SealedEvent:
    by = b"caller"
    return SealedEvent(
        seq=seq, hash=murmur2(by), topic=topic, partition_by=by, key=b"key", value=value, headers=[("h", b"v")]
    )


def test_frames_are_found_between_anything(tmp_path: Path) -> None:
    file = tmp_path / "data"
    frames = [seal(event(seq, bytes(seq * 100))) for seq in range(5)]
    cut = seal(event(77))
    parts = [
        b"before",
        frames[0],
        MAGIC,
        frames[1],
        frames[2],
        MAGIC + b"\xff\xff\xff\xff" + b"garbage",
        MAGIC[:4],
        frames[3],
        cut[:-1],
        frames[4],
        cut[:-1],
    ]
    file.write_bytes(b"".join(parts))
    assert [frame for _, frame in frames_in(file)] == frames
    for at, frame in frames_in(file):
        assert frame_at(file, at) == frame
    with pytest.raises(OSError, match="can't be read again"):
        frame_at(file, 1)


def test_frames_are_found_wherever_a_read_ends(tmp_path: Path) -> None:
    file = tmp_path / "data"
    frame = seal(event(1))
    for begins in range(MIB - len(frame) - 2, MIB + 2):
        with file.open("wb") as opened:
            opened.seek(begins)
            opened.write(frame + b"\0")
        assert list(frames_in(file)) == [(begins, frame)], begins


def test_an_event_inside_an_event_is_not_found(tmp_path: Path) -> None:
    file = tmp_path / "data"
    outer = seal(event(1, value=seal(event(2))))
    file.write_bytes(outer)
    assert list(frames_in(file)) == [(0, outer)]


def test_a_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "data"
    chance = random.Random(1)
    with file.open("wb") as opened:
        for seq in range(64):
            opened.write(chance.randbytes(MIB // 2) + seal(event(seq, chance.randbytes(MIB // 2))))
    tracemalloc.start()
    try:
        assert sum(1 for _ in frames_in(file)) == 64
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        tracemalloc.reset_peak()
        restored = tmp_path / "restored"
        restored.mkdir()
        assert restore(file, restored) == Restored(64, 0)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_no_part_of_a_file_is_read_often(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"".join(seal(event(seq, bytes(1000))) for seq in range(10_000)))
    before = _bytes_read()
    assert sum(1 for _ in frames_in(file)) == 10_000
    assert _bytes_read() - before < 3 * file.stat().st_size


def _bytes_read() -> int:
    """By this process, as Linux counts."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


def _restored(tmp_path: Path, *events: SealedEvent) -> tuple[list[tuple[int, bytes | None]], list[tuple[int, str]]]:
    """Sequence numbers and values of what waits, sequence numbers and reasons of what is refused."""
    file = tmp_path / "data"
    file.write_bytes(b"".join(map(seal, events)))
    directory = tmp_path / "spool"
    directory.mkdir()
    found = restore(file, directory)
    spool = Spool(directory, MAX_BYTES)
    assert spool.set_aside is None
    seqs = [waiting.seq for waiting in spool.waiting()]
    waiting = [(seq, entry.value) for seq, entry in zip(seqs, spool.read(seqs), strict=True)]
    refused = [(one.seq, one.reason) for one in spool.refused()]
    assert found.events == len(waiting) + len(refused)
    assert spool.next_seq > max([*seqs, 0])
    spool.close()
    return waiting, refused


def test_numbers_stay_and_one_that_is_found_twice_is_there_once(tmp_path: Path) -> None:
    waiting, refused = _restored(tmp_path, event(9, b"9"), event(3, b"3"), event(9, b"9"), event(5, b"5"))
    assert waiting == [(3, b"3"), (5, b"5"), (9, b"9")]
    assert refused == []


def test_of_two_events_with_one_number_none_is_lost(tmp_path: Path) -> None:
    other = msgspec.structs.replace(event(2, b"other"), partition_by=b"somebody else")
    waiting, _ = _restored(tmp_path, event(2, b"one"), event(7, b"7"), other, event(2, b"third"))
    assert waiting == [(2, b"one"), (7, b"7"), (8, b"other"), (9, b"third")]


@pytest.mark.parametrize("refused_first", [True, False])
def test_what_was_refused_is_refused_though_its_older_self_is_found(tmp_path: Path, refused_first: bool) -> None:
    before = event(2, b"2")
    after = msgspec.structs.replace(before, reason="too large", refused_at=5)
    waiting, refused = _restored(tmp_path, *((after, before) if refused_first else (before, after)), event(3, b"3"))
    assert waiting == [(3, b"3")]
    assert refused == [(2, "too large")]


def test_facts_are_counted_once_each_and_left_out(tmp_path: Path) -> None:
    file = tmp_path / "data"
    fact = event(1, topic=CALLERS_FACTS.name)
    file.write_bytes(seal(fact) + seal(event(2)) + seal(fact) + seal(event(3, topic=CALLERS_FACTS.name)))
    directory = tmp_path / "spool"
    directory.mkdir()
    assert restore(file, directory) == Restored(1, 2)
