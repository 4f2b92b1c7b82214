"""The topics of the catalogue on a cluster: made, looked at, repaired."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from runtime.drift import Drift, Found, Wanted, drifts_of, missing
from runtime.kafka import KafkaUnavailable, make_admin, start_within, stop_within
from runtime.logs import logger
from runtime.settings import PREFIX, Settings, SettingsError
from schemas.topics import CATALOGUE, FOREVER_MS, PARTITIONS_ON_A_CLUSTER, Topic

# A change goes from the controller to every broker in milliseconds; a cluster that needs longer is in trouble.
VISIBLE_DEADLINE_S = 15.0
_POLL_S = 0.05

REPLICAS_ON_A_CLUSTER = 3  # one may be away, and an event is still on two

# The source of a value that somebody set on the topic itself. Source: Kafka's protocol, DescribeConfigs.
_SET_ON_TOPIC = 1


class TopicStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A topic of the catalogue; `found` is None while it doesn't exist."""

    name: str
    topic: Topic
    found: Found | None
    drifts: tuple[Drift, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is, after what was done. `repaired` are the drifts that are none any more."""

    topics: tuple[TopicStatus, ...]
    created: tuple[str, ...] = ()
    repaired: tuple[Drift, ...] = ()

    @property
    def drifts(self) -> tuple[Drift, ...]:
        return tuple(drift for status in self.topics for drift in status.drifts)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is no drift and yet worth knowing."""
        single = [status.name for status in self.topics if status.found and status.found.replication == 1]
        if not single:
            return ()
        return (
            f"{_listed(single)} {'has' if len(single) == 1 else 'have'} one replica: acks=all is a copy on the in-sync"
            " replicas, not an fsync, so an acknowledged event may be in the memory of one machine only.",
        )


class ForgetfulTopic(SettingsError):
    """A topic that should keep its events for ever would delete them."""


class TopicsForbidden(KafkaUnavailable):
    """Kafka knows us, and we may not do that."""


async def apply(settings: Settings, *, fix: bool = False, topics: Sequence[Topic] = CATALOGUE) -> Report:
    """Makes what is missing and, with `fix`, repairs what can be repaired. Lowers nothing, adds no partitions.

    Returns when every broker that was asked knows of the changes.
    Raises `KafkaUnavailable`, or `SettingsError` when the cluster can't give what the settings ask for.
    """
    async with _cluster(settings) as cluster:
        created = await cluster.create(topics)
        before = await cluster.look(topics)
        if not fix:
            return Report(topics=before, created=created)
        repaired = await cluster.repair(before)
        return Report(topics=await cluster.look(topics), created=created, repaired=repaired)


async def check(settings: Settings, *, topics: Sequence[Topic] = CATALOGUE) -> Report:
    """Looks, and changes nothing. Raises `KafkaUnavailable`."""
    async with _cluster(settings) as cluster:
        return Report(topics=await cluster.look(topics))


async def make_missing(settings: Settings, topics: Sequence[Topic]) -> None:
    """For the start of a process that writes to a topic of its own: makes it, if it isn't there.

    Raises `SettingsError` where Kafka forbids that to us, `KafkaUnavailable` when it is away.
    """
    if not topics:
        return
    try:
        async with _cluster(settings) as cluster:
            for name in await cluster.create(topics):
                logger("runtime.topics").info("made a topic", topic=name)
    except TopicsForbidden as error:
        names = _listed([topic.named(settings.topic_prefix) for topic in topics])
        owners = _listed(sorted({topic.owner for topic in topics}))
        raise SettingsError(
            f"Kafka lets this user make no topics, and {names} must be there: have it made by one who may,"
            f" with `ringlog topics apply --consumer {owners}`."
        ) from error


async def refuse_forgetful(settings: Settings, topics: Sequence[Topic] = CATALOGUE) -> None:
    """For the start of a process: raises `ForgetfulTopic` when the log would not be the truth for ever.

    A topic that doesn't exist forgets nothing. With `allow_forgetful_topics`, and where we may not look, it is logged.
    Raises `KafkaUnavailable`.
    """
    log = logger("runtime.topics")
    forever = [topic for topic in topics if topic.retention_ms == FOREVER_MS]
    try:
        report = await check(settings, topics=forever)
    except TopicsForbidden:
        log.warning("whether topics forget is unknown: this user may not describe their configuration")
        return
    forgetful = [drift for drift in report.drifts if drift.forgets]
    if not forgetful:
        return
    if settings.allow_forgetful_topics:
        log.warning("topics forget, as allowed", topics=[drift.sentence for drift in forgetful])
        return
    raise ForgetfulTopic(
        " ".join(drift.sentence for drift in forgetful)
        + f" Or set {PREFIX}ALLOW_FORGETFUL_TOPICS=true, and what was forgotten can't be rebuilt."
    )


@asynccontextmanager
async def _cluster(settings: Settings) -> AsyncIterator["_Cluster"]:
    admin = make_admin(settings)
    await start_within(admin)
    try:
        yield _Cluster(admin, settings)
    except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError) as error:
        raise TopicsForbidden(
            f"Kafka forbids it ({error}): `ringlog topics` needs the operations Describe, DescribeConfigs, Create and"
            " AlterConfigs on its topics."
        ) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnavailable(f"the topics could not be looked at or changed: {error!r}") from error
    finally:
        await stop_within(admin)


class _Layout(msgspec.Struct, frozen=True):
    partitions: int
    replication: int  # of the weakest partition
    led: bool  # every partition has a leader: the topic can be used


# Of each topic: setting -> value in effect and its source.
_Configs = dict[str, dict[str, tuple[str, int]]]


class _Cluster:
    """One connection to the cluster, for a few questions and changes."""

    def __init__(self, admin: AIOKafkaAdminClient, settings: Settings) -> None:
        self._admin = admin
        self._settings = settings

    async def create(self, topics: Sequence[Topic]) -> tuple[str, ...]:
        """The names of those that were missing and are there now."""
        there = await self._layouts()
        absent = {name: topic for topic in topics if (name := self._name(topic)) not in there}
        if not absent:
            return ()
        wanted = await self._wanted()
        min_insync = wanted.min_insync_of(wanted.replication)
        self._refuse_impossible(wanted.replication, min_insync, await self._brokers())
        partitions = wanted.partitions or PARTITIONS_ON_A_CLUSTER
        response = await self._admin.create_topics(
            [
                NewTopic(name, partitions, wanted.replication, topic_configs=topic.config(min_insync))
                for name, topic in absent.items()
            ]
        )
        # Somebody else may have made one in the meantime: what it is like, the next look tells.
        _raise_errors(
            ((name, code, message) for name, code, message in response.topic_errors), but=TopicAlreadyExistsError
        )
        await self._until(self._layouts, lambda there: all(name in there and there[name].led for name in absent))
        return tuple(absent)

    async def look(self, topics: Sequence[Topic]) -> tuple[TopicStatus, ...]:
        there, wanted = await self._layouts(), await self._wanted()
        configs = await self._configs([name for topic in topics if (name := self._name(topic)) in there])
        return tuple(self._status(topic, there, configs, wanted) for topic in topics)

    async def repair(self, statuses: Sequence[TopicStatus]) -> tuple[Drift, ...]:
        """The drifts that are repaired."""
        repairs = {
            status.name: drifts
            for status in statuses
            if (drifts := [drift for drift in status.drifts if drift.repairable])
        }
        if not repairs:
            return ()
        configs = await self._configs(repairs)
        resources = []
        for name, drifts in repairs.items():
            # This request replaces all that was set on a topic: what others have set must be in it, too.
            union = {key: value for key, (value, source) in configs[name].items() if source == _SET_ON_TOPIC}
            union |= {drift.setting: drift.should for drift in drifts}
            resources.append(ConfigResource(ConfigResourceType.TOPIC, name, union))
        for response in await self._admin.alter_configs(resources):
            _raise_errors((name, code, message) for code, message, _type, name in response.resources)
        done = tuple(drift for drifts in repairs.values() for drift in drifts)
        await self._until(
            lambda: self._configs(repairs),
            lambda found: all(found[drift.topic][drift.setting][0] == drift.should for drift in done),
        )
        return done

    def _name(self, topic: Topic) -> str:
        return topic.named(self._settings.topic_prefix)

    def _status(self, topic: Topic, there: Mapping[str, _Layout], configs: _Configs, wanted: Wanted) -> TopicStatus:
        name = self._name(topic)
        if name not in there:
            return TopicStatus(name=name, topic=topic, found=None, drifts=(missing(name),))
        found = Found(
            there[name].partitions, there[name].replication, {key: value for key, (value, _) in configs[name].items()}
        )
        return TopicStatus(name=name, topic=topic, found=found, drifts=tuple(drifts_of(topic, name, found, wanted)))

    async def _wanted(self) -> Wanted:
        replication = self._settings.topic_replication or min(REPLICAS_ON_A_CLUSTER, await self._brokers())
        return Wanted(self._settings.topic_partitions, replication, self._settings.topic_min_insync)

    async def _brokers(self) -> int:
        return len((await self._admin.describe_cluster())["brokers"])

    @staticmethod
    def _refuse_impossible(replication: int, min_insync: int, brokers: int) -> None:
        if replication > brokers:
            raise SettingsError(
                f"{PREFIX}TOPIC_REPLICATION is wrong: {replication} replicas need as many brokers,"
                f" and the cluster has {brokers} now."
            )
        if min_insync > replication:
            raise SettingsError(
                f"{PREFIX}TOPIC_MIN_INSYNC is wrong: {min_insync} replicas can't be in sync"
                f" with a replication of {replication}."
            )

    async def _layouts(self) -> dict[str, _Layout]:
        """Of every topic, ours and others': asking for one that is missing would make it on a cluster that creates
        topics by itself, and with settings that forget."""
        return {
            topic["topic"]: _Layout(
                len(topic["partitions"]),
                min(len(partition["replicas"]) for partition in topic["partitions"]),
                all(partition["leader"] >= 0 for partition in topic["partitions"]),
            )
            for topic in await self._admin.describe_topics()
            if topic["partitions"]
        }

    async def _configs(self, names: Iterable[str]) -> _Configs:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        async with asyncio.timeout(VISIBLE_DEADLINE_S):
            while resources:
                try:
                    return await self._described(resources)
                except UnknownTopicOrPartitionError:
                    # Another broker has just told us of them. This one has not heard of them yet.
                    await asyncio.sleep(_POLL_S)
        return {}

    async def _described(self, resources: Sequence[ConfigResource]) -> _Configs:
        configs: _Configs = {}
        for response in await self._admin.describe_configs(resources):
            _raise_errors((resource[3], resource[0], resource[1]) for resource in response.resources)
            for _code, _message, _type, name, entries in response.resources:
                configs[name] = {entry[0]: (entry[1], entry[3]) for entry in entries if entry[1] is not None}
        return configs

    @staticmethod
    async def _until(ask: Callable[[], Any], done: Callable[[Any], bool]) -> None:
        async with asyncio.timeout(VISIBLE_DEADLINE_S):
            while not done(await ask()):  # noqa: ASYNC110 - Kafka tells nobody when its brokers have learned it
                await asyncio.sleep(_POLL_S)


def _raise_errors(answers: Iterable[tuple[str, int, str | None]], but: type[KafkaError] | None = None) -> None:
    """Raises the first error among a response's (topic, code, message)."""
    for name, code, message in answers:
        error = for_code(code)
        if code and error is not but:
            raise error(f"{name}: {message or error.description}")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
