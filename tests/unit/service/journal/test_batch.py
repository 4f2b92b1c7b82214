"""A batch keeps nothing of its events but their bytes, and gives them back when Kafka does not take them."""

from aiokafka.record.memory_records import MemoryRecords

from schemas.topics import CALLERS_FACTS, CALLS_ENDED, CALLS_REJECTED
from service.journal.batch import Batch, OpenBatch
from service.journal.entry import Entry

ENTRIES = [
    Entry(CALLS_ENDED, b"caller", b"caller", b'{"a":1}', [("ce_id", b"1"), ("ce_subject", "Grüße".encode())]),
    Entry(CALLS_ENDED, b"caller-2", b"caller-2", b"v" * 100_000, [("ce_id", b"2"), ("ce_id", b"again")]),
    Entry(CALLS_ENDED, b"", b"", b"", []),
]
ELSEWHERE = [
    Entry(CALLERS_FACTS, b"caller", b"caller/tier", None, [("ce_id", b"3")]),
    Entry(CALLERS_FACTS, b"key", b"key", b"{}", []),
    Entry(CALLERS_FACTS, b"id", None, b"{}", []),
]


def batch_of(entries: list[Entry]) -> Batch:
    batch = Batch()
    for entry in entries:
        assert batch.add(entry)
    return batch


def sent(builder: OpenBatch) -> bytes:
    """As the producer's sender takes it, after it got its numbers."""
    builder._set_producer_state(7, 1, 42)
    return bytes(builder._build())


async def test_the_events_come_back_as_they_were_put_in() -> None:
    assert batch_of(ENTRIES).entries(CALLS_ENDED) == ENTRIES


async def test_what_decides_the_partition_comes_back_where_it_is_not_the_key() -> None:
    assert batch_of(ELSEWHERE).entries(CALLERS_FACTS) == ELSEWHERE


async def test_a_rejected_event_without_key_comes_back() -> None:
    rejected = [Entry(CALLS_REJECTED, b"%d" % number, None, b"{}", []) for number in range(300)]
    assert batch_of(rejected).entries(CALLS_REJECTED) == rejected


async def test_they_come_back_when_the_sender_has_taken_it_and_again() -> None:
    batch = batch_of(ENTRIES)
    sent(batch.builder)
    assert batch.entries(CALLS_ENDED) == batch.entries(CALLS_ENDED) == ENTRIES


async def test_nothing_comes_out_of_an_empty_one() -> None:
    assert Batch().entries(CALLS_ENDED) == []


async def test_the_sender_still_sends_the_same_after_they_were_read() -> None:
    """It may have its turn later, and must find the numbers that it gave, not those of a batch that nobody took."""
    untouched, read = batch_of(ENTRIES), batch_of(ENTRIES)
    assert read.entries(CALLS_ENDED) == ENTRIES
    found = MemoryRecords(sent(read.builder)).next_batch()
    expected = MemoryRecords(sent(untouched.builder)).next_batch()
    assert found is not None and expected is not None
    assert found.validate_crc()
    state = (found.producer_id, found.producer_epoch, found.base_sequence)
    assert state == (expected.producer_id, expected.producer_epoch, expected.base_sequence) == (7, 1, 42)
    assert [(it.key, it.value, it.headers) for it in found] == [(it.key, it.value, it.headers) for it in expected]


async def test_it_takes_nothing_after_it_was_read() -> None:
    batch = batch_of(ENTRIES)
    batch.entries(CALLS_ENDED)
    assert not batch.add(ENTRIES[0])
    assert batch.count == len(ENTRIES)


async def test_it_counts_what_it_holds() -> None:
    batch = batch_of(ENTRIES)
    assert (batch.count, batch.size) == (3, sum(entry.size for entry in ENTRIES))
