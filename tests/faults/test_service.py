"""The service is killed, told to end and frozen while calls end."""

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from tests.faults.audit import Findings
from tests.faults.scene import Scene

# Busy brokers and instances share two cores with the load: what is promised in milliseconds is asked for in seconds.
SLACK_S = 2.0

# Exit code, spool closed, producer flushed: below the grace period of any orchestrator, which is 10 to 30 s.
END_WITHIN_S = 15.0


@pytest.mark.parametrize(
    "kills",
    [pytest.param(5, id="short"), pytest.param(50, id="full", marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
async def test_killed_at_random_points(
    scene: Scene, seed: int, kills: int, clean: Callable[[Findings], None], say: Callable[[str], None]
) -> None:
    """Two of three times Kafka can't be reached, so that it is the spool which must outlive the process: the first time
    it has just gone, and the second time the process has never seen it. Sometimes one is killed before it listens, and
    so perhaps while it opens its spool."""
    dice = random.Random(seed)
    one = await scene.instance(proxied=True).started()
    spooled = 0.0
    async with scene.load(one):
        for kill in range(kills):
            scene.network(half_open=kill % 3 != 0)
            # Seldom long enough for an acknowledgement to be late, and for the spool to take what waits for it.
            await asyncio.sleep(dice.uniform(0.0, 4.0 if kill % 6 == 5 else 1.0))
            spooled += await one.metric("ringlog_spooled_total") or 0
            one.kill()
            if dice.random() < 0.5:
                scene.reset_network()  # what the network held back is lost, too
            one.start()
            if kill % 5 != 3:
                await one.listens()
        scene.restore_network()
        await one.until("ringlog_kafka_connected", {1.0})
    findings = await scene.audited()
    say(f"killed {kills} times, {spooled:g} events had gone to the spool by then")
    assert spooled > 0
    clean(findings)


@pytest.mark.parametrize(
    "handovers",
    [pytest.param(1, id="short"), pytest.param(8, id="full", marks=[pytest.mark.slow, pytest.mark.timeout(400)])],
)
async def test_told_to_end_while_another_takes_over(
    scene: Scene, handovers: int, clean: Callable[[Findings], None], say: Callable[[str], None]
) -> None:
    """Every other time Kafka can't be reached when it must end: then what it has spooled waits for its next start."""
    leaving, staying = scene.instance("one", proxied=True), scene.instance("two", proxied=True)
    ended_after = []
    leaving.start()
    await staying.started()
    await leaving.connects()
    async with scene.load(leaving, staying):
        for handover in range(handovers):
            if not staying.is_running:
                await staying.started()
            await asyncio.sleep(1.0)
            if handover % 2:
                scene.network(half_open=True)
                await asyncio.sleep(3.0)
            ended_after.append(await leaving.terminate())
            since = time.monotonic()
            await asyncio.sleep(2.0)
            scene.restore_network()
            assert set(scene.ledger.statuses(since)) <= {200, 400, None}
            assert scene.ledger.statuses(since, staying.name)[200] > 0
            leaving, staying = staying, leaving
        if handovers > 1:
            await staying.started()  # it may have something in its spool
    findings = await scene.audited()
    say(f"{handovers} times told to end, and ended after at most {max(ended_after):.1f} s")
    assert max(ended_after) < END_WITHIN_S
    assert set(scene.ledger.statuses()) <= {200, 400, None}
    clean(findings)


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(5, id="short"), pytest.param(30, id="full", marks=[pytest.mark.slow])],
)
async def test_frozen_and_thawed(
    scene: Scene, seconds: int, clean: Callable[[Findings], None], say: Callable[[str], None]
) -> None:
    one = await scene.instance().started()
    async with scene.load(one):
        await asyncio.sleep(1.0)
        one.pause()
        await asyncio.sleep(seconds)
        one.resume()
        thawed = time.monotonic()
        await asyncio.sleep(3.0)
    assert set(scene.ledger.statuses()) <= {200, 400}
    assert set(scene.ledger.statuses(prefetch=True)) == {200}
    assert scene.ledger.slowest_s() < seconds + 2 * SLACK_S  # those of before have their answer, too
    assert scene.ledger.slowest_s(thawed + SLACK_S) < SLACK_S
    assert scene.ledger.slowest_s(thawed, prefetch=True) < SLACK_S
    clean(await scene.audited())
