"""What is asked of a Kafka as it is now, and what is said when it can't tell."""

import pytest

from runtime import cluster
from runtime.cluster import connected, describe, ends_of
from runtime.kafka import KafkaUnavailable
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH
from tests.command import publish
from tests.ended_calls import ended


async def test_ends_are_those_of_every_partition(settings: Settings, topics: tuple[str, ...]) -> None:
    await publish(settings, ended("a", 1, {}), ended("b", 2, {}))
    ends = await ends_of(settings, [CALLS_PREFETCH, CALLS_ENDED])
    prefetch, calls_ended = (topic.named(settings.topic_prefix) for topic in (CALLS_PREFETCH, CALLS_ENDED))
    assert sorted(ends) == [(name, number) for name in sorted((prefetch, calls_ended)) for number in (0, 1)]
    assert sum(ends.values()) == 2 == sum(ends[calls_ended, number] for number in (0, 1))


async def test_topic_that_is_not_there_is_named_and_not_made(settings: Settings) -> None:
    missing = CALLS_ENDED.named(settings.topic_prefix)
    for _ in range(2):
        with pytest.raises(KafkaUnavailable, match=f"no topic {missing}: run `ringlog topics apply`"):
            await ends_of(settings, [CALLS_ENDED])
    async with connected(settings) as asked:
        assert missing not in await asked.topics()


async def test_kafka_that_gives_no_answer_is_unavailable(
    settings: Settings, topics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ASK_DEADLINE_S", 0.2)
    async with connected(settings) as asked:
        with pytest.raises(KafkaUnavailable, match="it gave no answer"):
            await asked.reaches([(topics[0], 99)])


async def test_kafka_error_of_what_is_asked_is_unavailable(
    settings: Settings, topics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a partition that is gone the client gives up by itself, with an error that is no `ConnectionError`."""
    monkeypatch.setattr("runtime.kafka.REQUEST_TIMEOUT_MS", 400)
    async with connected(settings) as asked:
        with pytest.raises(KafkaUnavailable, match="Kafka can't be asked"):
            await asked.reaches([(topics[0], 99)])


async def test_kafka_that_is_not_there_is_unavailable(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(KafkaUnavailable, match="can't be reached"):
        await ends_of(nowhere, [CALLS_ENDED])


async def test_description_is_of_all_topics_whoever_asks(settings: Settings, topics: tuple[str, ...]) -> None:
    cluster_id, known = await describe(settings)
    assert set(topics) <= known.keys()
    assert known[CALLS_ENDED.named(settings.topic_prefix)] == [0, 1]
    async with connected(settings) as asked:
        assert (await asked.id(), await asked.topics()) == (cluster_id, known)
