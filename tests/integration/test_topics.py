"""`ringlog topics` against a real broker: what it makes, what it reports, what it repairs and what it leaves alone."""

from collections.abc import AsyncIterator, Mapping

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from runtime.kafka import KafkaUnavailable, make_admin, start_within, stop_within
from runtime.settings import Settings, SettingsError
from runtime.topics import ForgetfulTopic, apply, check, refuse_forgetful
from schemas.topics import CALLERS_FACTS, CALLS_ENDED, CALLS_REJECTED, CATALOGUE, Topic
from tests.conftest import PARTITIONS


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = make_admin(settings)
    await start_within(admin)
    yield admin
    await stop_within(admin)


async def test_apply_makes_the_catalogue_as_it_is_written(settings: Settings) -> None:
    report = await apply(settings)
    assert report.created == tuple(settings.topic_prefix + topic.name for topic in CATALOGUE)
    assert report.drifts == ()
    for status in report.topics:
        assert status.found is not None
        assert (status.found.partitions, status.found.replication) == (PARTITIONS, 1)
        for setting, value in status.topic.config(1).items():
            assert status.found.config[setting] == value
    assert (await check(settings)).drifts == ()


async def test_apply_twice_changes_nothing(settings: Settings) -> None:
    first = await apply(settings)
    second = await apply(settings, fix=True)
    assert (second.created, second.repaired) == ((), ())
    assert second.topics == first.topics


async def test_partitions_are_twelve_when_nobody_asks(settings: Settings) -> None:
    report = await apply(settings.model_copy(update={"topic_partitions": None}), topics=[CALLS_ENDED])
    assert report.topics[0].found is not None
    assert report.topics[0].found.partitions == 12


async def test_one_replica_is_said_to_be_no_fsync(settings: Settings) -> None:
    report = await apply(settings, topics=[CALLS_ENDED])
    assert "not an fsync" in report.notes[0]
    assert report.notes[0].startswith(f"{settings.topic_prefix}calls.ended has one replica")


async def test_check_reports_what_is_missing_and_makes_nothing(settings: Settings) -> None:
    for _ in range(2):
        report = await check(settings)
        assert [drift.found for drift in report.drifts] == ["missing"] * len(CATALOGUE)


DRIFTS = [
    (CALLS_ENDED, "retention.ms", "604800000", "-1"),
    (CALLS_ENDED, "retention.bytes", "1073741824", "-1"),
    (CALLS_ENDED, "cleanup.policy", "compact", "delete"),
    (CALLS_ENDED, "max.message.bytes", "1048588", "10485760"),
    (CALLS_ENDED, "message.timestamp.type", "CreateTime", "LogAppendTime"),
    (CALLS_REJECTED, "retention.ms", "86400000", "2592000000"),
    (CALLERS_FACTS, "cleanup.policy", "compact,delete", "compact"),
    (CALLERS_FACTS, "delete.retention.ms", "86400000", "2592000000"),
]


@pytest.mark.parametrize(("topic", "setting", "found", "should"), DRIFTS)
async def test_a_drift_is_reported_and_repaired(
    settings: Settings, admin: AIOKafkaAdminClient, topic: Topic, setting: str, found: str, should: str
) -> None:
    name = await _made(settings, admin, topic, {setting: found})
    (drift,) = (await check(settings, topics=[topic])).drifts
    assert (drift.topic, drift.setting, drift.found, drift.should) == (name, setting, found, should)
    assert drift.sentence.startswith(f"{name}: {setting} is {found}: ")
    assert (await apply(settings, topics=[topic])).drifts == (drift,)  # reported only: nobody said --fix
    report = await apply(settings, fix=True, topics=[topic])
    assert (report.repaired, report.drifts) == ((drift,), ())
    assert (await check(settings, topics=[topic])).drifts == ()


LARGER = {"max.message.bytes": "20971520", "segment.ms": "3600000", "compression.type": "lz4"}


async def test_a_repair_lowers_nothing_and_keeps_what_others_set(
    settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    await _made(settings, admin, CALLS_REJECTED, {**LARGER, "retention.ms": "-1", "retention.bytes": "1000000"})
    report = await apply(settings, fix=True, topics=[CALLS_REJECTED])
    assert [drift.setting for drift in report.repaired] == ["retention.bytes"]
    assert report.topics[0].found is not None
    config = report.topics[0].found.config
    for setting, value in {**LARGER, "retention.ms": "-1", "retention.bytes": "-1"}.items():
        assert config[setting] == value


async def test_an_operators_topic_without_any_setting_is_repaired_whole(
    settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    await admin.create_topics([NewTopic(CALLS_ENDED.named(settings.topic_prefix), PARTITIONS, 1)])
    report = await apply(settings, fix=True, topics=[CALLS_ENDED])
    assert {drift.setting for drift in report.repaired} >= {"retention.ms", "message.timestamp.type"}
    assert report.drifts == ()


async def test_partitions_and_replicas_are_reported_and_never_added(
    settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    await _made(settings, admin, CALLS_ENDED, {})
    more = settings.model_copy(update={"topic_partitions": PARTITIONS + 1, "topic_replication": 3})
    report = await apply(more, fix=True, topics=[CALLS_ENDED])
    assert [(drift.setting, drift.found, drift.should) for drift in report.drifts] == [
        ("replication", "1", "3"),
        ("partitions", str(PARTITIONS), str(PARTITIONS + 1)),
    ]
    assert report.repaired == ()


async def test_min_insync_beyond_the_replicas_is_reported_and_left_alone(
    settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    await _made(settings, admin, CALLS_ENDED, {"min.insync.replicas": "2"})
    report = await apply(settings, fix=True, topics=[CALLS_ENDED])
    (drift,) = report.drifts
    assert "every write is refused" in drift.sentence
    assert report.topics[0].found is not None
    assert report.topics[0].found.config["min.insync.replicas"] == "2"


async def test_what_the_cluster_can_not_give_is_a_sentence(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"RINGLOG_TOPIC_REPLICATION is wrong: 3 replicas .* has 1 now"):
        await apply(settings.model_copy(update={"topic_replication": 3}))
    with pytest.raises(SettingsError, match="RINGLOG_TOPIC_MIN_INSYNC is wrong: 2 replicas"):
        await apply(settings.model_copy(update={"topic_min_insync": 2}))
    assert {drift.found for drift in (await check(settings)).drifts} == {"missing"}


@pytest.mark.parametrize(("topic", "setting", "found", "should"), DRIFTS)
async def test_a_start_is_refused_where_events_would_be_forgotten(
    settings: Settings, admin: AIOKafkaAdminClient, topic: Topic, setting: str, found: str, should: str
) -> None:
    await _made(settings, admin, topic, {setting: found})
    if topic is CALLS_REJECTED or setting in ("max.message.bytes", "message.timestamp.type", "delete.retention.ms"):
        await refuse_forgetful(settings)
        return
    with pytest.raises(ForgetfulTopic, match=f"{topic.name}: {setting} is {found}.*RINGLOG_ALLOW_FORGETFUL_TOPICS"):
        await refuse_forgetful(settings)
    await refuse_forgetful(settings.model_copy(update={"allow_forgetful_topics": True}))
    await apply(settings, fix=True, topics=[topic])
    await refuse_forgetful(settings)


async def test_topics_that_are_missing_forget_nothing(settings: Settings) -> None:
    await refuse_forgetful(settings)


async def test_a_kafka_that_is_away_is_said_so(settings: Settings) -> None:
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(KafkaUnavailable, match="can't be reached"):
        await check(away)


async def _made(settings: Settings, admin: AIOKafkaAdminClient, topic: Topic, differently: Mapping[str, str]) -> str:
    """The topic as in the catalogue but for a few settings, as an operator may have left it."""
    await apply(settings, topics=[topic])
    name = topic.named(settings.topic_prefix)
    config = {**topic.config(1), **differently}
    for response in await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, config)]):
        assert [resource[0] for resource in response.resources] == [0]
    for _ in range(100):
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        now = {entry[0]: entry[1] for entry in response.resources[0][4]}
        if all(now[setting] == value for setting, value in config.items()):
            return name
    raise AssertionError(f"{name} did not become {config}")
