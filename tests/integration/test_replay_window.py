"""`ringlog replay` of a part of the log: by times, by offsets, and of what a topic still has."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from sqlalchemy import select

from consumers.tables import positions
from runtime.kafka import make_admin, start_within, stop_within
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED
from tests.ended_calls import ended
from tests.integration.replay_scene import HISTORY, Scene, call, doubling, open_scene, spread


@pytest.fixture
def scene(settings: Settings, database_url: str, tmp_path: Path) -> Iterator[Scene]:
    with open_scene(settings, database_url, tmp_path) as scene:
        yield scene


@pytest.mark.parametrize("by", ["offsets", "time"])
def test_a_part_of_the_log_changes_only_calls_that_lie_in_it_whole(scene: Scene, by: str) -> None:
    events = [call("onex", 1, 1), call("two", 2, 1), call("twox", 3, 1)]
    scene.publish([*spread(events), *spread([call("six", 4, 1)])])
    with doubling():
        scene.consume(scene.billing(), 4)
    wrong = scene.bills()
    later = spread([call("twox", 9, 2), call("lastx", 10, 1)])
    with doubling(), scene.consuming(scene.billing()):
        scene.consumed("billing", 4)
        boundary = now() if by == "time" else offsets_of(scene)
        scene.publish(later)
        scene.consumed("billing", 6)
    found = scene.replay("billing", f"--from={boundary}", "--swap")
    assert (found["events"], found["differing"], found["partial"]) == (2, 1, 4)
    assert scene.bills() == wrong | {"twox": 4_000_000, "lastx": 1_000_000}
    found = scene.replay("billing", f"--until={boundary}", "--swap")
    assert (found["events"], found["swapped"]["sessions"], found["partial"]) == (4, 2, 2)
    assert scene.bills()["twox"] == 4_000_000


def test_an_event_that_came_again_counts_as_of_its_first_arrival(scene: Scene) -> None:
    body = {"cost_breakdown": [{"type": "llm", "provider": "openai", "credit": 1}]}
    scene.publish([ended("twice", 1, body)])
    scene.consume(scene.billing(), 1)
    boundary = offsets_of(scene)
    scene.publish([ended("twice", 60, body)])
    scene.consume(scene.billing(), 2)
    found = scene.replay("billing", f"--from={boundary}")
    assert (found["events"], found["partial"], found["different"]) == (1, 1, False)


def now() -> str:
    """A time after all that was published before, and before all that is published afterwards."""
    time.sleep(0.1)
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.1)
    return moment


def offsets_of(scene: Scene) -> str:
    with scene.engine.connect() as tx:
        rows = tx.execute(select(positions.c.partition, positions.c.next_offset).order_by(positions.c.partition))
        return ",".join(f"{partition}:{offset}" for partition, offset in rows)


def test_a_log_that_has_forgotten_its_head_is_refused_or_replayed_in_part(scene: Scene) -> None:
    scene.publish(HISTORY)
    with doubling():
        scene.consume(scene.billing(), 5)
    first = next(it for it in HISTORY if it.header("ce_subject") == "bx")  # its second body is not forgotten
    gone = [it for it in HISTORY if it.partition == first.partition].index(first) + 1
    asyncio.run(forget(scene.settings, first.partition, gone))
    said = scene.run("replay", "billing", code=1)
    assert "The log has forgotten its beginning" in said.stderr
    before = scene.bills()
    found = scene.replay("billing", "--partial", "--swap")
    assert found["partial"] >= 1 and found["first"][0]["session_id"] == "cx"
    assert scene.bills() == before | {"cx": 5_000_000}


async def forget(settings: Settings, partition: int, before: int) -> None:
    admin = make_admin(settings)
    await start_within(admin)
    topic = TopicPartition(CALLS_ENDED.named(settings.topic_prefix), partition)
    await admin.delete_records({topic: RecordsToDelete(before)})
    await stop_within(admin)
