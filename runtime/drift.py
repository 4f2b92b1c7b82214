"""Where a topic on a cluster differs from the catalogue in a way that costs events. Pure: nothing is asked or changed.

What an operator has made larger (a retention, a limit, the replicas) is a decision, not a drift.
"""

from collections.abc import Iterator, Mapping

import msgspec

from schemas.topics import DAY_MS, FOREVER_MS, Topic

REPAIR = "`ringlog topics apply --fix` repairs it"


class Found(msgspec.Struct, frozen=True):
    """A topic as it is: `replication` is that of its weakest partition, `config` the values in effect."""

    partitions: int
    replication: int
    config: Mapping[str, str]


class Wanted(msgspec.Struct, frozen=True):
    """What topics should have beyond the catalogue. `partitions` and `min_insync` are None when nobody asked."""

    partitions: int | None
    replication: int
    min_insync: int | None

    def min_insync_of(self, replication: int) -> int:
        """Two copies before an acknowledgement where one more may be away; with fewer replicas it would stop writes."""
        return self.min_insync or (2 if replication >= 3 else 1)


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """`repairable`: `--fix` sets `setting` to `should`. `forgets`: events are lost by it, sooner or later."""

    topic: str
    setting: str
    found: str
    should: str
    repairable: bool
    forgets: bool = False
    sentence: str


def drifts_of(topic: Topic, name: str, found: Found, wanted: Wanted) -> list[Drift]:
    """All drifts of a topic that exists; `name` is its name on the cluster."""
    should = topic.config(wanted.min_insync_of(found.replication))
    return [
        *_retention(topic, name, found, should),
        *_cleanup(topic, name, found, should),
        *_tombstones(name, found, should),
        *_message_size(name, found, should),
        *_timestamps(name, found, should),
        *_min_insync(name, found, should),
        *_replication(name, found, wanted),
        *_partitions(name, found, wanted),
    ]


def missing(name: str) -> Drift:
    return Drift(
        topic=name,
        setting="topic",
        found="missing",
        should="there",
        repairable=True,
        sentence=f"{name} does not exist: `ringlog topics apply` makes it.",
    )


def _retention(topic: Topic, name: str, found: Found, should: Mapping[str, str]) -> Iterator[Drift]:
    forever = topic.retention_ms == FOREVER_MS
    # Time and size delete nothing where only compaction cleans; they would as soon as somebody adds `delete`.
    forgets = forever and "delete" in _policies(found.config["cleanup.policy"])
    kept_ms = int(found.config["retention.ms"])
    if kept_ms != FOREVER_MS and (forever or kept_ms < topic.retention_ms):
        wished = "for ever (-1)" if forever else f"{topic.retention_ms / DAY_MS:g} days ({topic.retention_ms})"
        yield _config(
            name,
            "retention.ms",
            found,
            should,
            f"events are deleted after {kept_ms / DAY_MS:.3g} days, and should be kept {wished}",
            forgets,
        )
    if int(found.config["retention.bytes"]) != FOREVER_MS:
        why = "the oldest events of a full partition are deleted, and its size should not matter (-1)"
        yield _config(name, "retention.bytes", found, should, why, forgets)


def _cleanup(topic: Topic, name: str, found: Found, should: Mapping[str, str]) -> Iterator[Drift]:
    if _policies(found.config["cleanup.policy"]) != {topic.cleanup}:
        why = (
            "facts are deleted by age, and only a newer fact should replace one (compact)"
            if topic.cleanup == "compact"
            else "compaction keeps the newest event of a caller only, and all should be kept (delete)"
        )
        yield _config(name, "cleanup.policy", found, should, why, forgets=topic.retention_ms == FOREVER_MS)


def _tombstones(name: str, found: Found, should: Mapping[str, str]) -> Iterator[Drift]:
    setting = "delete.retention.ms"
    if setting in should and int(found.config[setting]) < int(should[setting]):
        why = f"a reader that was away longer misses deletions; it should be {should[setting]}"
        yield _config(name, setting, found, should, why)


def _message_size(name: str, found: Found, should: Mapping[str, str]) -> Iterator[Drift]:
    setting = "max.message.bytes"
    if int(found.config[setting]) < int(should[setting]):
        why = f"the broker refuses larger events, and they may have {should[setting]}"
        yield _config(name, setting, found, should, why)


def _timestamps(name: str, found: Found, should: Mapping[str, str]) -> Iterator[Drift]:
    setting = "message.timestamp.type"
    if found.config[setting] != should[setting]:
        why = "a wrong clock of a sender decides when an event was appended; it should be LogAppendTime"
        yield _config(name, setting, found, should, why)


def _min_insync(name: str, found: Found, should: Mapping[str, str]) -> Iterator[Drift]:
    setting = "min.insync.replicas"
    has, asked = int(found.config[setting]), int(should[setting])
    if has > found.replication:
        yield Drift(
            topic=name,
            setting=setting,
            found=str(has),
            should=f"at most {found.replication}",
            repairable=False,  # it would be lowered
            sentence=f"{name}: {setting} is {has} with a replication of {found.replication}, so every write is refused:"
            " add replicas (kafka-reassign-partitions), or lower it yourself.",
        )
    elif has < asked and asked > found.replication:
        yield Drift(
            topic=name,
            setting=setting,
            found=str(has),
            should=str(asked),
            repairable=False,  # it would refuse every write
            sentence=f"{name}: {setting} is {has} and should be {asked}, but the replication is {found.replication}:"
            " add replicas first (kafka-reassign-partitions).",
        )
    elif has < asked:
        why = f"an acknowledged event may be on {has} broker{'s' * (has > 1)} alone, and should be on {asked}"
        yield _config(name, setting, found, should, why)


def _replication(name: str, found: Found, wanted: Wanted) -> Iterator[Drift]:
    if found.replication < wanted.replication:
        yield Drift(
            topic=name,
            setting="replication",
            found=str(found.replication),
            should=str(wanted.replication),
            repairable=False,
            sentence=f"{name}: the replication is {found.replication} and should be {wanted.replication}:"
            " add replicas with kafka-reassign-partitions.",
        )


def _partitions(name: str, found: Found, wanted: Wanted) -> Iterator[Drift]:
    if wanted.partitions is not None and found.partitions < wanted.partitions:
        yield Drift(
            topic=name,
            setting="partitions",
            found=str(found.partitions),
            should=str(wanted.partitions),
            repairable=False,
            sentence=f"{name}: it has {found.partitions} partitions and {wanted.partitions} were asked for: none is"
            " ever added, because callers would move between them and their events lose their order.",
        )


def _config(name: str, setting: str, found: Found, should: Mapping[str, str], why: str, forgets: bool = False) -> Drift:
    return Drift(
        topic=name,
        setting=setting,
        found=found.config[setting],
        should=should[setting],
        repairable=True,
        forgets=forgets,
        sentence=f"{name}: {setting} is {found.config[setting]}: {why}; {REPAIR}.",
    )


def _policies(cleanup: str) -> set[str]:
    return {policy.strip() for policy in cleanup.split(",") if policy.strip()}
