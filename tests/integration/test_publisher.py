"""What a consumer's process publishes: whole batches on the way, an outcome for each message."""

from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import RecordMetadata

from consumers.parcels import LARGEST_BYTES, Message
from consumers.publisher import Publisher
from runtime.kafka import BATCH_BYTES, InvalidRecord, make_consumer, start_within, stop_within
from runtime.settings import Settings
from schemas.partition import partition_of
from schemas.topics import BILLING_CHARGES, CALLERS_FACTS
from tests.conftest import PARTITIONS

pytestmark = pytest.mark.usefixtures("topics")

CALLERS = ("anna", "bert", "cleo", "dora")

Place = tuple[int, int]  # partition, offset


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings)
    yield publisher
    await publisher.stop()


def message(settings: Settings, number: int, key: str | None = "anna", size: int = 10) -> Message:
    value = f"{number}".encode().ljust(size)
    topic = BILLING_CHARGES.named(settings.topic_prefix)
    return Message(topic=topic, key=key and key.encode(), value=value, headers=[("ce_id", f"{number}".encode())])


async def lying(settings: Settings) -> dict[Place, tuple[int, bytes | None, int]]:
    """Where what lies: number, key and size."""
    partitions = [TopicPartition(BILLING_CHARGES.named(settings.topic_prefix), number) for number in range(PARTITIONS)]
    consumer = make_consumer(settings)
    await start_within(consumer)
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)
    found = {}
    while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
        for tp, records in (await consumer.getmany(timeout_ms=500)).items():
            for it in records:
                assert dict(it.headers) == {"ce_id": it.value.strip()}
                found[tp.partition, it.offset] = (int(it.value), it.key, len(it.value))
    await stop_within(consumer)
    return found


def placed(outcomes: Sequence[RecordMetadata | BaseException]) -> list[Place]:
    return [(it.partition, it.offset) for it in outcomes if not isinstance(it, BaseException)]


async def test_each_lies_in_its_callers_partition_in_the_order_of_the_call(
    settings: Settings, publisher: Publisher
) -> None:
    """More than a batch takes, some of them larger than a batch."""
    sizes = [BATCH_BYTES // 3, 10, 10, 3 * BATCH_BYTES, 10, BATCH_BYTES // 2, BATCH_BYTES - 100, 10]
    messages = [message(settings, n, CALLERS[n % 3], sizes[n % len(sizes)]) for n in range(40)]
    outcomes = await publisher.deliver(messages)
    there = await lying(settings)
    assert [there[place] for place in placed(outcomes)] == [
        (n, CALLERS[n % 3].encode(), sizes[n % len(sizes)]) for n in range(40)
    ]
    assert [partition for partition, _ in placed(outcomes)] == [
        partition_of(it.key or b"", PARTITIONS) for it in messages
    ]
    for caller in CALLERS[:3]:
        in_order = [n for _, (n, key, _) in sorted(there.items()) if key == caller.encode()]
        assert in_order == sorted(in_order)


async def test_one_without_a_key_goes_to_any_partition(settings: Settings, publisher: Publisher) -> None:
    outcomes = [(await publisher.deliver([message(settings, n, None)]))[0] for n in range(2 * PARTITIONS)]
    assert {partition for partition, _ in placed(outcomes)} == set(range(PARTITIONS))
    assert len(await lying(settings)) == 2 * PARTITIONS


async def test_none_overtakes_one_that_is_too_large(settings: Settings, publisher: Publisher) -> None:
    too_large = LARGEST_BYTES + 1
    messages = [message(settings, n, CALLERS[n % 4], too_large if n == 5 else 10) for n in range(10)]
    outcomes = await publisher.publish(messages)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 5 + [MessageSizeTooLargeError] * 5
    assert sorted(number for number, _, _ in (await lying(settings)).values()) == [0, 1, 2, 3, 4]
    assert await publisher.publish([message(settings, 10)]) == [None]


async def test_what_a_partition_refuses_says_nothing_of_the_others(settings: Settings, publisher: Publisher) -> None:
    """A compacted topic takes nothing without a key."""
    refused = Message(topic=CALLERS_FACTS.named(settings.topic_prefix), key=None, value=b"{}", headers=[])
    outcomes = await publisher.publish([message(settings, 0), refused, message(settings, 1)])
    assert [outcomes[0], outcomes[2]] == [None, None]
    assert isinstance(outcomes[1], InvalidRecord)
    assert await publisher.publish([message(settings, 2)]) == [None], "by a producer made anew"
    assert sorted(number for number, _, _ in (await lying(settings)).values()) == [0, 1, 2]


async def test_a_partition_that_acknowledges_nothing_holds_up_no_other(
    settings: Settings, publisher: Publisher
) -> None:
    """It comes first, and has more to send than the producer takes at once."""
    assert await publisher.publish([message(settings, n, caller) for n, caller in enumerate(CALLERS)]) == [None] * 4
    of_anna = partition_of(b"anna", PARTITIONS)
    other = next(caller for caller in CALLERS if partition_of(caller.encode(), PARTITIONS) != of_anna)
    never_sent_to(publisher, TopicPartition(BILLING_CHARGES.named(settings.topic_prefix), of_anna))
    messages = [message(settings, 4 + n, "anna" if n < 3 else other, BATCH_BYTES) for n in range(6)]
    outcomes = await publisher.publish(messages)
    assert [type(outcome) for outcome in outcomes] == [TimeoutError] * 3 + [type(None)] * 3
    assert await publisher.publish(messages[:3]) == [None] * 3, "by a producer made anew"
    assert sorted(number for number, _, _ in (await lying(settings)).values()) == list(range(10))


def never_sent_to(publisher: Publisher, partition: TopicPartition) -> None:
    """As when its leader doesn't answer: the producer waits for what is on its way."""
    assert publisher._producer is not None
    publisher._producer._sender._muted_partitions.add(partition)


async def test_without_kafka_none_is_acknowledged(settings: Settings) -> None:
    publisher = Publisher(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))
    outcomes = await publisher.deliver([message(settings, n) for n in range(3)])
    assert len(outcomes) == 3
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert await publisher.publish([]) == []
    await publisher.stop()
