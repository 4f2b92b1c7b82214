"""The topics of a cluster, by one connection to it: what they are like, and what is changed of them."""

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
from runtime.settings import PREFIX, Settings, SettingsError
from schemas.topics import PARTITIONS_ON_A_CLUSTER, Topic

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


class TopicsForbidden(KafkaUnavailable):
    """Kafka knows us, and we may not do that."""


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator["TopicAdmin"]:
    """What goes wrong inside of the block is raised as `KafkaUnavailable`, or `TopicsForbidden`, which is one."""
    admin = make_admin(settings)
    await start_within(admin)
    try:
        yield TopicAdmin(admin, settings)
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


class TopicAdmin:
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
