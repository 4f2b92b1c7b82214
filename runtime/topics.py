"""The topics of the catalogue on a cluster: made, looked at, repaired."""

from collections.abc import Sequence

import msgspec

from runtime.drift import Drift
from runtime.logs import logger
from runtime.settings import PREFIX, Settings, SettingsError
from runtime.topic_admin import TopicsForbidden, TopicStatus, connected
from schemas.topics import CATALOGUE, FOREVER_MS, Topic


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


async def apply(settings: Settings, *, fix: bool = False, topics: Sequence[Topic] = CATALOGUE) -> Report:
    """Makes what is missing and, with `fix`, repairs what can be repaired. Lowers nothing, adds no partitions.

    Returns when every broker that was asked knows of the changes.
    Raises `KafkaUnavailable`, or `SettingsError` when the cluster can't give what the settings ask for.
    """
    async with connected(settings) as cluster:
        created = await cluster.create(topics)
        before = await cluster.look(topics)
        if not fix:
            return Report(topics=before, created=created)
        repaired = await cluster.repair(before)
        return Report(topics=await cluster.look(topics), created=created, repaired=repaired)


async def check(settings: Settings, *, topics: Sequence[Topic] = CATALOGUE) -> Report:
    """Looks, and changes nothing. Raises `KafkaUnavailable`."""
    async with connected(settings) as cluster:
        return Report(topics=await cluster.look(topics))


async def make_missing(settings: Settings, topics: Sequence[Topic]) -> None:
    """For the start of a process that writes to a topic of its own: makes it, if it isn't there.

    Raises `SettingsError` where Kafka forbids that to us, `KafkaUnavailable` when it is away.
    """
    if not topics:
        return
    try:
        async with connected(settings) as cluster:
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


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
