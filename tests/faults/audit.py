"""The oracle: reads the topics themselves, with nothing of ringlog's, and compares them with the ledger."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from aiokafka import AIOKafkaConsumer

from tests.faults.ledger import Ledger, Line
from tests.faults.provider import ENDED, PREFETCHED, REJECTED, quarantined

TOPICS = (ENDED, REJECTED, PREFETCHED)

_TYPES = {ENDED: b"ringlog.call.ended", REJECTED: b"ringlog.call.rejected", PREFETCHED: b"ringlog.call.prefetched"}
_POLL_MS = 500


class Found(msgspec.Struct, frozen=True):
    """A record as it lies in a topic, whose name is without the prefix."""

    topic: str
    place: str
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes]


class _Event(msgspec.Struct):
    event_id: str
    session_id: str = ""
    body: msgspec.Raw = msgspec.Raw()
    head: str = ""


@dataclass
class Findings:
    """`violations` are sentences; it is right when there are none. A `duplicate` is a further record of an event that
    is there already, with the same id and the same bytes, which is allowed."""

    violations: list[str] = field(default_factory=list)
    sent: int = 0
    accepted: int = 0
    unknown: int = 0
    refused: int = 0
    stored: int = 0
    duplicates: int = 0
    prefetches: int = 0
    prefetches_stored: int = 0

    def __str__(self) -> str:
        return (
            f"{self.sent} sent, {self.accepted} accepted, {self.refused} refused, {self.unknown} with unknown outcome;"
            f" {self.stored} in the topics, {self.duplicates} of them twice; prefetches: {self.prefetches} sent,"
            f" {self.prefetches_stored} in the topic; violations: {len(self.violations)}"
        )


async def audit(servers: str, prefix: str, ledger: Ledger) -> Findings:
    """Of all that lies in the topics now."""
    return compare(ledger, await read_topics(servers, prefix))


async def read_topics(servers: str, prefix: str) -> list[Found]:
    """Everything, up to where each partition ends now."""
    names = {prefix + topic: topic for topic in TOPICS}
    consumer = AIOKafkaConsumer(
        *names,
        bootstrap_servers=servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_bytes=32 * 1024 * 1024,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        assert {partition.topic for partition in ends} == set(names)
        found: list[Found] = []
        for partition, end in ends.items():
            while await consumer.position(partition) < end:
                for message in (await consumer.getmany(partition, timeout_ms=_POLL_MS)).get(partition, ()):
                    place = f"{message.topic}-{message.partition}@{message.offset}"
                    headers = dict(message.headers)
                    found.append(Found(names[message.topic], place, message.key, message.value or b"", headers))
        return found
    finally:
        await consumer.stop()


def compare(ledger: Ledger, records: Iterable[Found]) -> Findings:
    findings = Findings()
    places: dict[str, Counter[str]] = {topic: Counter() for topic in TOPICS}
    sessions: dict[str, set[str]] = defaultdict(set)
    lines = {topic: ledger.lines(topic) for topic in TOPICS}
    for record in records:
        findings.violations += _violations_of(record, lines[record.topic])
        id_ = record.headers.get("ce_id", b"").decode()
        places[record.topic][id_] += 1
        if record.topic == ENDED:
            sessions[record.headers.get("ce_subject", b"").decode()].add(id_)
    for session, ids in sessions.items():
        if len(ids) > 1:
            findings.violations.append(f"session {session} sent one body and has {len(ids)} event ids: {sorted(ids)}")
    for line in ledger:
        findings.violations += _violations_of_answers(line, line.message.event_id in places[line.message.topic])
    _count(findings, ledger, places)
    return findings


def _violations_of(record: Found, sent: Mapping[str, Line]) -> list[str]:
    try:
        event = msgspec.json.decode(record.value, type=_Event)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return [f"{record.place} can't be read: {error}"]
    id_ = record.headers.get("ce_id", b"").decode()
    line = sent.get(id_)
    if line is None:
        return [f"{record.place} is event {id_} of session {event.session_id!r}, which nobody sent"]
    message, said = line.message, []
    if event.event_id != id_:
        said.append(f"{record.place} is event {id_} by its header and {event.event_id} by its value")
    if event.session_id != message.session_id:
        said.append(f"{record.place} is of session {event.session_id!r}, was sent for {message.session_id!r}")
    if record.headers.get("ce_type") != _TYPES[record.topic]:
        said.append(f"{record.place} has the type {record.headers.get('ce_type')!r}")
    kept = quarantined(event.head) if record.topic == REJECTED else bytes(event.body)
    if kept != message.kept:
        said.append(f"{record.place}, event {id_}: other bytes than were sent, first at {_differ(kept, message.kept)}")
    said += [f"{record.place} holds a secret of {id_}" for secret in message.secrets if secret in record.value]
    return said


def _violations_of_answers(line: Line, is_stored: bool) -> list[str]:
    message, said = line.message, []
    for attempt in line.attempts:
        if attempt.status not in (None, 503, message.status):
            said.append(f"{message.event_id} was answered {attempt.status} by {attempt.to}")
        if attempt.status == 503 and not (attempt.retry_after or "").isdecimal():
            said.append(f"{message.event_id} was refused, and not told when to come again, by {attempt.to}")
        if attempt.status == 200 and message.topic == ENDED and attempt.event_id != message.event_id:
            said.append(f"session {message.session_id} was told the event id {attempt.event_id}")
    if line.accepted is not None and not is_stored and message.topic != PREFETCHED:
        name = message.session_id or "a broken body"
        said.append(f"lost: {message.event_id} of {name}, which {line.accepted.to} answered with {message.status}")
    return said


def _count(findings: Findings, ledger: Ledger, places: Mapping[str, Counter[str]]) -> None:
    for line in ledger:
        if line.message.topic == PREFETCHED:
            findings.prefetches += 1
            continue
        findings.sent += 1
        statuses = {attempt.status for attempt in line.attempts}
        if line.accepted is not None:
            findings.accepted += 1
        elif None in statuses:
            findings.unknown += 1
        else:
            findings.refused += 1
    for topic in (ENDED, REJECTED):
        findings.stored += len(places[topic])
        findings.duplicates += sum(places[topic].values()) - len(places[topic])
    findings.prefetches_stored = len(places[PREFETCHED])


def _differ(one: bytes, other: bytes) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
