"""Records without headers are those that aiokafka reads, whatever the batches are like."""

import struct
from collections.abc import Sequence
from random import Random

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from runtime.fetched_records import _REPLACED, LeanRecords, is_plain, read_lean, read_whole
from runtime.settings import SettingsError

WHERE = TopicPartition("t", 0)
Record = tuple[int, int, bytes | None, bytes | None]

_ATTRIBUTES = 21, ">h"
_LARGEST_MS = 35, ">q"
_APPEND_TIME = 0x08


def batch(
    base: int, records: Sequence[Record], codec: int = 0, *, append_ms: int | None = None, transactional: bool = False
) -> bytes:
    """As a broker gives it; records are delta, time, key and value."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=transactional,
        producer_id=1 if transactional else -1,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 24,
    )
    for delta, timestamp, key, value in records:
        assert builder.append(delta, timestamp, key, value, [("ce_type", b"x" * 20), ("none", None)]) is not None
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, base)
    if append_ms is not None:
        attributes = struct.unpack_from(_ATTRIBUTES[1], built, _ATTRIBUTES[0])[0] | _APPEND_TIME
        struct.pack_into(_ATTRIBUTES[1], built, _ATTRIBUTES[0], attributes)
        struct.pack_into(_LARGEST_MS[1], built, _LARGEST_MS[0], append_ms)
        _sign(built)
    return bytes(built)


def _sign(built: bytearray) -> None:
    struct.pack_into(">I", built, 17, calc_crc32c(bytes(built[21:])))


def aiokafkas(raw: bytes, offset: int = 0) -> tuple[list[Record], int]:
    found = PartitionRecords(WHERE, MemoryRecords(raw), [], offset, None, None, True, READ_COMMITTED)
    return [(it.offset, it.timestamp, it.key, it.value) for it in found], found.next_fetch_offset


def ours(raw: bytes, offset: int = 0) -> tuple[list[Record], int]:
    found = LeanRecords(WHERE, raw, offset)
    return [(it.offset, it.timestamp, it.key, it.value) for it in found], found.next_fetch_offset


def some(count: int, dice: Random) -> list[Record]:
    """Of every size at which a number gets one more byte, and with none of what may be missing."""
    sizes = (0, 1, 63, 64, 300, 8191, 8192, 70_000)
    delta, records = 0, []
    for _ in range(count):
        key, value = (None if dice.random() < 0.1 else dice.randbytes(dice.choice(sizes)) for _ in range(2))
        records.append((delta, 1_700_000_000_000 + dice.choice((0, 1, -70, 10**6)), key, value))
        delta += dice.choice((1, 1, 5, 200))
    return records


@pytest.mark.parametrize("append_ms", [None, 1_800_000_000_123])
@pytest.mark.parametrize("codec", range(5), ids=["plain", "gzip", "snappy", "lz4", "zstd"])
def test_they_are_those_of_aiokafka(codec: int, append_ms: int | None) -> None:
    dice = Random(codec)
    raw = b"".join(batch(base, some(40, dice), codec, append_ms=append_ms) for base in (0, 100_000, 2**40))
    assert is_plain(raw)
    assert ours(raw) == aiokafkas(raw)
    assert len(ours(raw)[0]) == 120


@pytest.mark.parametrize("offset", [0, 3, 4, 100, 101])
def test_what_lies_before_the_offset_that_was_asked_for_is_left_out(offset: int) -> None:
    raw = batch(0, [(delta, 1, b"k", b"v") for delta in range(5)]) + batch(
        100, [(0, 1, b"k", b"v"), (1, 1, b"k", b"v")]
    )
    assert ours(raw, offset) == aiokafkas(raw, offset)


def test_the_position_follows_each_record_and_passes_the_end_of_a_batch() -> None:
    raw = bytearray(batch(10, [(0, 1, b"k", b"v"), (1, 1, b"k", b"v")]))
    struct.pack_into(">i", raw, 23, 7)  # its last records were compacted away
    _sign(raw)
    records = LeanRecords(WHERE, bytes(raw), 10)
    assert next(iter(records)).offset == 10
    assert records.next_fetch_offset == 11
    assert [it.offset for it in records] == [11]  # where a loop broke off, the next goes on
    assert records.next_fetch_offset == 18 == aiokafkas(bytes(raw), 10)[1]


def test_an_answer_may_be_cut_off_anywhere() -> None:
    whole = batch(0, [(0, 1, b"k", b"v")])
    for length in (1, 60, 61, len(whole) - 1):
        assert ours(whole + whole[:length]) == ours(whole)


def test_a_flipped_bit_is_found() -> None:
    raw = bytearray(batch(0, some(10, Random(1))))
    raw[70] ^= 1
    with pytest.raises(CorruptRecordException):
        ours(bytes(raw))


def test_a_batch_that_holds_more_than_it_says_is_refused() -> None:
    raw = bytearray(batch(0, [(0, 1, b"k", b"v"), (1, 1, b"k", b"v")]))
    struct.pack_into(">i", raw, 57, 1)
    _sign(raw)
    with pytest.raises(CorruptRecordException, match="left after"):
        ours(bytes(raw))


def test_transactions_and_older_formats_are_left_to_aiokafka() -> None:
    plain = batch(0, [(0, 1, b"k", b"v")])
    assert not is_plain(plain + batch(1, [(0, 1, b"k", b"v")], transactional=True))
    legacy = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 20)
    legacy.append(0, timestamp=1, key=b"k", value=b"v" * 100)
    assert not is_plain(bytes(legacy.build()))
    assert DefaultRecordBatch(bytearray(plain)).magic == 2


def test_an_aiokafka_that_reads_in_another_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def getall(self: FetchResult) -> None:
        """Of a version to come."""

    monkeypatch.setattr(FetchResult, "getall", getall)
    for reads in (read_lean, read_whole):
        with pytest.raises(SettingsError) as refused:
            reads(object())
        assert str(refused.value) == (
            f"aiokafka {aiokafka.__version__} can't be read with: its FetchResult.getall knows no _partition_records."
            " Install the version that ringlog asks for."
        )


@pytest.mark.parametrize("place", _REPLACED, ids=lambda place: f"{place[1]}-{place[2]}")
def test_each_place_that_is_replaced_is_looked_at(
    place: tuple[type, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, user, _ = place
    monkeypatch.delattr(owner, user)
    with pytest.raises(SettingsError, match=f"its {owner.__name__}.{user} knows no"):
        read_whole(object())
