"""A sealed event is what was sealed, or it is not read at all."""

import pytest

from schemas.partition import murmur2
from service.journal.sealed import (
    HEADER_BYTES,
    MAGIC,
    SealedEvent,
    check,
    key_of,
    length_of_frame,
    parts_of,
    seal,
    seq_key,
    unseal,
)
from service.journal.spool_errors import SpoolDamaged

EVENT = SealedEvent(
    seq=7,
    hash=murmur2(b"\x00caller\xff"),
    topic="calls.ended",
    partition_by=b"\x00caller\xff",
    key=b"key",
    value=b'{"a": 1}',
    headers=[("ce_id", b"1"), ("ce_id", b"\xff\x00")],
    reason="",
    refused_at=0,
)
EMPTY = SealedEvent(seq=0, hash=0, topic="", partition_by=b"", key=None, value=None, headers=[])
REFUSED = SealedEvent(
    seq=2**63,
    hash=murmur2(b"p"),
    topic="t",
    partition_by=b"p",
    key=b"",
    value=b"",
    headers=[],
    reason="größer",
    refused_at=1,
)


@pytest.mark.parametrize("event", [EVENT, EMPTY, REFUSED])
def test_what_is_sealed_is_read_again(event: SealedEvent) -> None:
    frame = seal(event)
    assert frame.startswith(MAGIC)
    assert length_of_frame(frame[:HEADER_BYTES]) == len(frame)
    assert unseal(frame) == event
    assert unseal(memoryview(frame)) == event


@pytest.mark.parametrize("event", [EVENT, EMPTY, REFUSED])
def test_it_is_sound_under_its_own_key_only(event: SealedEvent) -> None:
    frame, key = seal(event), key_of(event)
    check(key, frame)
    for bit in range(len(key) * 8):
        wrong = bytearray(key)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SpoolDamaged):
            check(bytes(wrong), frame)


def test_no_flipped_bit_is_read() -> None:
    frame = seal(EVENT)
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SpoolDamaged):
            unseal(bytes(damaged))
        with pytest.raises(SpoolDamaged):
            check(key_of(EVENT), bytes(damaged))


def test_nothing_cut_or_added_is_read() -> None:
    frame = seal(EVENT)
    for length in range(len(frame)):
        with pytest.raises(SpoolDamaged):
            unseal(frame[:length])
    with pytest.raises(SpoolDamaged):
        unseal(frame + b"\0")


def test_no_text_looks_like_a_frame() -> None:
    never_in_utf8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert set(MAGIC) <= never_in_utf8


def test_keys_sort_by_number_and_tell_hash_and_topic() -> None:
    assert parts_of(key_of(EVENT)) == (7, murmur2(EVENT.partition_by), "calls.ended")
    assert parts_of(memoryview(key_of(REFUSED))) == (2**63, murmur2(b"p"), "t")
    keys = [seq_key(seq) for seq in (0, 1, 255, 256, 2**32, 2**63)]
    assert keys == sorted(keys)
    assert key_of(EVENT).startswith(seq_key(7))


@pytest.mark.parametrize("key", [b"", b"short", b"\0" * 12 + b"\xff"])
def test_a_key_that_nobody_wrote_is_damage(key: bytes) -> None:
    with pytest.raises(SpoolDamaged, match="a key can't be read"):
        parts_of(key)
