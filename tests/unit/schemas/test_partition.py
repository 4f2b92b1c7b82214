"""Our partitioner is Kafka's."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from schemas.partition import murmur2, partition_of


# Values of Kafka's own test of its murmur2 (UtilsTest), as unsigned numbers.
@pytest.mark.parametrize(
    ("key", "hash_"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_known_hashes(key: bytes, hash_: int) -> None:
    assert murmur2(key) == hash_ & 0xFFFFFFFF


@given(st.binary(max_size=80))
def test_the_hash_is_that_of_the_client(key: bytes) -> None:
    assert murmur2(key) == reference(key) & 0xFFFFFFFF


@given(st.binary(min_size=1, max_size=80), st.integers(1, 1000))
def test_the_partition_is_that_of_the_client(key: bytes, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everywhere, everywhere)
