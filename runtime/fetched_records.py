"""What a consumer makes of the records that it fetches: ours, at once, instead of aiokafka's.

A consumer's own fetches, leaders, retries and positions stay as they are, and only what an answer is taken apart into
is another thing: `Record`s by `read_whole`, and for a reader of millions that looks at no header, `LeanRecord`s by
`read_lean`. aiokafka makes two objects of each record, one of them of eleven members, and a text and bytes of each of
its headers: half of what reading costs.

All this replaces what aiokafka promises to nobody: see `_REPLACED`.

Source: Kafka's protocol, the record batch of version 2.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition, __version__
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.util import calc_crc32c

from runtime.kafka import record_at
from runtime.settings import SettingsError

# Who in aiokafka uses what is replaced here, or asked for.
_REPLACED = (
    (AIOKafkaConsumer, "start", "_fetcher"),
    (Fetcher, "_fetch_requests_routine", "_proc_fetch_request"),
    (Fetcher, "_proc_fetch_request", "_client"),
    (Fetcher, "_proc_fetch_request", "_records"),
    (FetchResult, "getall", "_partition_records"),
    (PartitionRecords, "__next__", "_records_iterator"),
    (PartitionRecords, "_unpack_records", "_consumer_record"),
)

# Base offset, length of what follows, leader's epoch, magic, CRC, attributes, last offset's delta, first and largest
# timestamp, producer's id, epoch and sequence, number of records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_LENGTH_BYTES = 12  # of the two fields that the length doesn't count
_CRC_COVERS_FROM = 21  # the attributes
_MAGIC = 2

_CODEC = 0x07
_APPEND_TIME = 0x08
_TRANSACTIONAL_OR_CONTROL = 0x30

_DECODERS = {0: bytes, 1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


class LeanRecord(msgspec.Struct, frozen=True, gc=False):
    """`timestamp` in milliseconds since the epoch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def read_whole(consumer: AIOKafkaConsumer) -> None:
    """From now on `getmany` gives `Record`s. Once, when the consumer has started, and before it has partitions.

    Raises `SettingsError` when another aiokafka is installed than can be read with.
    """
    _after_each_fetch(consumer, _make_whole)


def read_lean(consumer: AIOKafkaConsumer) -> None:
    """As `read_whole`, but `LeanRecord`s; and `ConsumerRecord`s of what is not plain: older formats, transactions."""
    _after_each_fetch(consumer, _make_lean)
    consumer._fetcher._client = _Remembering(consumer._fetcher._client)


def _after_each_fetch(consumer: AIOKafkaConsumer, change: Callable[[Any, Any], None]) -> None:
    """`change` gets the fetcher, which has new answers, and the request."""
    _check()
    fetcher = consumer._fetcher
    fetch = fetcher._proc_fetch_request

    async def fetch_and_change(assignment: Any, node_id: int, request: FetchRequest) -> bool:
        fetched: bool = await fetch(assignment, node_id, request)
        if fetched:
            change(fetcher, request)
        return fetched

    fetcher._proc_fetch_request = fetch_and_change


def _check() -> None:
    """Raises `SettingsError`: without this, another aiokafka would give records of its own, or none."""
    for owner, user, used in _REPLACED:
        code = getattr(getattr(owner, user, None), "__code__", None)
        if code is None or used not in code.co_names:
            raise SettingsError(
                f"aiokafka {__version__} can't be read with: its {owner.__name__}.{user} knows no {used}. Install the"
                " version that ringlog asks for."
            )


def _make_whole(fetcher: Any, _request: Any) -> None:
    for result in fetcher._records.values():
        if type(result) is FetchResult and result._partition_records is not None:
            result._partition_records._consumer_record = record_at


class _Remembering:
    """The client, which notes at a request what was answered."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        response = await self._client.send(node_id, request, **options)
        if isinstance(request, FetchRequest):
            request.answered = response.topics
        return response


def _make_lean(fetcher: Any, request: Any) -> None:
    asked = {TopicPartition(topic, one[0]): one[1] for topic, partitions in request.topics for one in partitions}
    for topic, partitions in request.answered:
        for partition, _error, _end, *_rest, raw in partitions:
            where = TopicPartition(topic, partition)
            result = fetcher._records.get(where)
            # Another answer's, where this one was discarded.
            is_this = type(result) is FetchResult and result._partition_records.next_fetch_offset == asked[where]
            if is_this and is_plain(raw):
                # It and its generator hold each other, and the answer: a megabyte that only the collector would find.
                result._partition_records._records_iterator = None
                result._partition_records = LeanRecords(where, raw, asked[where])


def is_plain(raw: bytes) -> bool:
    """Whether all of its batches are of version 2, and none is a transaction's."""
    at = 0
    while at + _HEADER.size <= len(raw):
        _base, length, _epoch, magic, _crc, attributes, *_ = _HEADER.unpack_from(raw, at)
        if magic != _MAGIC or attributes & _TRANSACTIONAL_OR_CONTROL:
            return False
        at += _LENGTH_BYTES + length
    return True


class LeanRecords(PartitionRecords):  # type: ignore[misc]
    """What `FetchResult` takes records from: an iterator, and the offset at which the next fetch begins."""

    def __init__(self, where: TopicPartition, raw: bytes, fetch_offset: int) -> None:
        self._where = where
        self._raw = raw
        self.next_fetch_offset = fetch_offset
        self._records_iterator = self._unpacked()

    def __iter__(self) -> Iterator[LeanRecord]:
        return self._records_iterator

    def _unpacked(self) -> Iterator[LeanRecord]:
        """Raises `CorruptRecordException`."""
        raw, at = self._raw, 0
        while at + _HEADER.size <= len(raw):
            base, length, _epoch, _magic, crc, attributes, last, first_ms, largest_ms, *_, count = _HEADER.unpack_from(
                raw, at
            )
            end = at + _LENGTH_BYTES + length
            if end > len(raw):
                return  # a broker cuts the last one where the answer is full
            if calc_crc32c(raw[at + _CRC_COVERS_FROM : end]) != crc:
                raise CorruptRecordException(f"Invalid CRC - {self._where}")
            records = _DECODERS[attributes & _CODEC](raw[at + _HEADER.size : end])
            appended_ms = largest_ms if attributes & _APPEND_TIME else None
            for record in _records(records, count, base, first_ms, appended_ms):
                if record.offset >= self.next_fetch_offset:  # a batch begins before the offset that was asked for
                    self.next_fetch_offset = record.offset + 1
                    yield record
            self.next_fetch_offset = base + last + 1  # also where its last records were compacted away
            at = end


def _records(data: bytes, count: int, base: int, first_ms: int, appended_ms: int | None) -> Iterator[LeanRecord]:
    """Each: its length, attributes, two deltas, key and value with their lengths, and headers, which are gone over."""
    at = 0
    for _ in range(count):
        length, at = _varint(data, at)
        end = at + length
        delta_ms, at = _varint(data, at + 1)
        delta, at = _varint(data, at)
        size, at = _varint(data, at)
        key = None
        if size >= 0:
            key = data[at : at + size]
            at += size
        size, at = _varint(data, at)
        value = None if size < 0 else data[at : at + size]
        yield LeanRecord(base + delta, first_ms + delta_ms if appended_ms is None else appended_ms, key, value)
        at = end
    if at != len(data):
        raise CorruptRecordException(f"{len(data) - at} bytes are left after the last record of a batch")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag number, and where it ends. Nearly all have one byte or two."""
    number = data[at]
    if number <= 0x7F:
        return (number >> 1) ^ -(number & 1), at + 1
    more = data[at + 1]
    number = number & 0x7F | (more & 0x7F) << 7
    at += 2
    shift = 14
    while more > 0x7F:
        more = data[at]
        number |= (more & 0x7F) << shift
        shift += 7
        at += 1
    return (number >> 1) ^ -(number & 1), at
