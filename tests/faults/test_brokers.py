"""Brokers die, hang and come back, and the network between is bad, while calls end.

Whatever it is: a prefetch is answered at once, every end of call is answered 200, and when it is over the spool empties
by itself and the oracle finds every call where it belongs.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from service.journal.lane import ACK_DEADLINE_S
from tests.faults.audit import Findings
from tests.faults.scene import PARTITIONS, Scene

# A prefetch takes milliseconds and an answer from the spool some more, but here brokers, proxies, the service and the
# load share two cores, and a JVM that starts takes one for seconds.
SLACK_S = 2.0

# Before the fault, so that all is connected and under way; and after it, so that some calls end in good times again.
CALM_S = 1.0

Fault = Callable[[Scene, float], Awaitable[None]]


async def one_down(scene: Scene, seconds: float) -> None:
    scene.cluster.kill(1)
    await asyncio.sleep(seconds)


async def leader_killed_again_and_again(scene: Scene, seconds: float) -> None:
    """Each is back in sync before the next one goes: never are two away at once."""
    dice, over = random.Random(scene.seed), asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < over:
        partition = dice.randrange(PARTITIONS)
        leader = await scene.cluster.wait_leader(scene.ended_topic, partition)
        scene.cluster.kill(leader)
        await scene.cluster.wait_leader(scene.ended_topic, partition, but=leader)
        await asyncio.sleep(dice.random())
        await scene.cluster.heal()


async def below_min_in_sync(scene: Scene, seconds: float) -> None:
    scene.cluster.kill(2, 3)
    await asyncio.sleep(seconds)


async def all_down(scene: Scene, seconds: float) -> None:
    scene.cluster.kill(*scene.cluster.ids)
    await asyncio.sleep(seconds)


async def leader_paused(scene: Scene, seconds: float) -> None:
    scene.cluster.pause(await scene.cluster.wait_leader(scene.ended_topic, 0))
    await asyncio.sleep(seconds)


async def all_paused(scene: Scene, seconds: float) -> None:
    scene.cluster.pause(*scene.cluster.ids)
    await asyncio.sleep(seconds)


async def latency(scene: Scene, seconds: float) -> None:
    scene.network(latency_s=0.4)
    await asyncio.sleep(seconds)


async def throttled(scene: Scene, seconds: float) -> None:
    scene.network(bytes_per_s=20_000)  # a fifth of what the load needs
    await asyncio.sleep(seconds)


async def resets(scene: Scene, seconds: float) -> None:
    dice, over = random.Random(scene.seed), asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < over:
        await asyncio.sleep(dice.random())
        scene.reset_network()


async def half_open(scene: Scene, seconds: float) -> None:
    scene.network(half_open=True)
    await asyncio.sleep(seconds)


async def acknowledgements_lost(scene: Scene, seconds: float) -> None:
    scene.network(loses_acks=True)
    await asyncio.sleep(seconds)
    assert sum(proxy.acks_lost for proxy in scene.proxies.values()) > 0


# Those that `make test` runs, too, and for how long.
SHORT: dict[Fault, float] = {all_down: 5, acknowledgements_lost: 2}

FULL: dict[Fault, float] = {
    one_down: 20,
    leader_killed_again_and_again: 60,
    below_min_in_sync: 30,
    all_down: 60,
    leader_paused: 20,
    all_paused: 15,
    latency: 15,
    throttled: 15,
    resets: 15,
    half_open: 15,
    acknowledgements_lost: 15,
}

CASES = [
    *(pytest.param(fault, seconds, id=f"{fault.__name__}-short") for fault, seconds in SHORT.items()),
    *(
        pytest.param(fault, seconds, id=f"{fault.__name__}-full", marks=[pytest.mark.slow, pytest.mark.timeout(400)])
        for fault, seconds in FULL.items()
    ),
]

OF_THE_NETWORK = (latency, throttled, resets, half_open, acknowledgements_lost)


@pytest.mark.parametrize(("fault", "seconds"), CASES)
async def test_no_call_is_refused_or_lost(
    scene: Scene, fault: Fault, seconds: float, clean: Callable[[Findings], None], say: Callable[[str], None]
) -> None:
    one = await scene.instance(proxied=fault in OF_THE_NETWORK).started()
    async with scene.load(one):
        await asyncio.sleep(CALM_S)
        await fault(scene, seconds)
        scene.restore_network()
        await scene.cluster.heal()
        await asyncio.sleep(CALM_S)
    emptied_after_s = await one.settled()
    spooled = await one.metric("ringlog_spooled_total")
    findings = await scene.audited()
    ledger = scene.ledger
    say(
        f"{spooled or 0:g} events were spooled, the spool was empty {emptied_after_s:.1f} s after the load;"
        f" slowest end of call {ledger.slowest_s():.2f} s, slowest prefetch {ledger.slowest_s(prefetch=True):.2f} s"
    )
    clean(findings)
    assert set(ledger.statuses()) <= {200, 400}, ledger.statuses()
    assert set(ledger.statuses(prefetch=True)) == {200}, ledger.statuses(prefetch=True)
    assert ledger.slowest_s() < ACK_DEADLINE_S + SLACK_S
    assert ledger.slowest_s(prefetch=True) < SLACK_S
