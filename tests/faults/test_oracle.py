"""The oracle itself: it must notice what it is there to notice."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from aiokafka import AIOKafkaProducer

from tests.faults.audit import Findings, audit, compare, read_topics
from tests.faults.instance import Instance
from tests.faults.ledger import Ledger
from tests.faults.provider import Provider
from tests.faults.scene import Scene

CALLS = 30


async def test_events_that_were_acknowledged_early_and_lost_are_reported(
    scene: Scene, say: Callable[[str], None]
) -> None:
    hasty = await scene.instance(proxied=True, command=("-m", "tests.faults.early_service")).started()
    async with scene.load(hasty, workers=0) as load:
        await load.send(CALLS)
        await hasty.settled()
        # Nothing reaches Kafka now, and the spool's turn comes only after the deadline of an acknowledgement.
        scene.network(half_open=True)
        await load.send(CALLS)
        hasty.kill()
        scene.reset_network()
    findings = await scene.audited()
    say(str(findings))
    assert (findings.sent, findings.accepted) == (2 * CALLS, 2 * CALLS)
    lost = [violation for violation in findings.violations if violation.startswith("lost: ")]
    assert len(lost) == CALLS
    assert findings.violations == lost


async def test_what_is_wrong_in_the_topic_is_reported(scene: Scene, clean: Callable[[Findings], None]) -> None:
    one = await scene.instance().started()
    async with scene.load(one, workers=0) as load:
        await load.send(CALLS)
    clean(await scene.audited())
    stored = await read_topics(scene.cluster.bootstrap_servers, scene.prefix)
    secretive = next(line.message for line in scene.ledger if line.message.secrets)
    good = next(found for found in stored if found.headers["ce_id"] == secretive.event_id.encode())
    stranger = Provider(0).end_of_call()

    async def report(value: bytes, id_: str) -> list[str]:
        """What is said once this record, in all else like a good one, has been appended, too."""
        before = (await audit(scene.cluster.bootstrap_servers, scene.prefix, scene.ledger)).violations
        # By all replicas, or the audit might come before it can be read.
        producer = AIOKafkaProducer(bootstrap_servers=scene.cluster.bootstrap_servers, acks="all")
        await producer.start()
        headers = {**good.headers, "ce_id": id_.encode()}
        await producer.send_and_wait(scene.ended_topic, value, good.key, headers=list(headers.items()))
        await producer.stop()
        after = (await audit(scene.cluster.bootstrap_servers, scene.prefix, scene.ledger)).violations
        return [violation for violation in after if violation not in before]

    def with_body(body: bytes) -> bytes:
        return good.value.replace(secretive.kept, body)

    id_ = secretive.event_id
    assert await report(good.value, id_) == []
    (unsent,) = [said for said in await report(with_body(stranger.kept), stranger.event_id) if "nobody sent" in said]
    assert stranger.event_id in unsent
    (flipped,) = await report(with_body(secretive.kept.replace(b"user-ended", b"user-endeD")), id_)
    assert "other bytes than were sent" in flipped
    leaked = await report(with_body(secretive.content.replace(b'": ', b'":').replace(b', "', b',"')), id_)
    assert sum("holds a secret" in said for said in leaked) == 2
    findings = await audit(scene.cluster.bootstrap_servers, scene.prefix, scene.ledger)
    (doubled,) = [said for said in findings.violations if "event ids" in said]
    assert {id_, stranger.event_id} == set(re.findall("'([0-9a-f]{32})'", doubled))
    assert findings.duplicates == 3


def test_an_answer_with_another_event_id_or_status_or_without_a_time_to_come_again_is_reported() -> None:
    ledger, message = Ledger(), Provider(0).end_of_call()
    ledger.answered(ledger.write(message, "one"), 200, "f" * 32)
    ledger.answered(ledger.write(message, "one"), 500)
    ledger.answered(ledger.write(message, "one"), 503, None, "2")
    ledger.answered(ledger.write(message, "one"), 503, None, None)
    violations = compare(ledger, []).violations
    for expected in ("told the event id ffff", "answered 500", "not told when to come again", "lost: "):
        assert sum(expected in violation for violation in violations) == 1, expected
    assert len(violations) == 4


async def test_a_process_that_ends_by_itself_is_reported(tmp_path: Path) -> None:
    crashing = Instance(
        "one", tmp_path, "127.0.0.1:1", "none.", command=("-c", "print('so long'); raise SystemExit(7)")
    )
    crashing.start()
    while crashing.is_running:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)
    crashing.kill()
    (violation,) = crashing.violations
    assert "start 1, ended by itself with 7" in violation
    assert "so long" in violation
