"""A new replica with an empty volume: it is ready when it has read the whole log, and then knows every caller."""

import asyncio
import json
import random
from collections.abc import Callable
from datetime import datetime

import pytest

from runtime.settings import load_settings
from tests.building import send
from tests.helm.outside import PARTITIONS
from tests.helm.release import IDENTITY_KEY, Release
from tests.unit.state.events import Event, ended

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

EVENTS = 50_000
CALLERS = 5_000
NUMBER = "+15551239999"


def test_a_new_replica_is_ready_when_it_has_replayed_the_log(
    new_release: Callable[..., Release], measured: Callable[[str, str], None]
) -> None:
    release = new_release()
    # Long enough for a busy machine: what is looked at is that readiness means "caught up".
    values = {
        "service": {"replicas": 1, "builder": {"startWithinSeconds": 240}},
        "consumers": {"calls": None, "billing": None, "transcripts": None},
    }
    release.install(values)
    log = calls_of_many()
    asyncio.run(send(release.outside.settings(release.prefix), *log, partitions=PARTITIONS))
    known = sum(event.key == caller_id(NUMBER).encode() for event in log)

    release.upgrade({**values, "service": {**values["service"], "replicas": 2}})
    _, newcomer = release.pods("service")
    assert newcomer.calls_of(NUMBER) == known
    measured(
        f"a new replica, {EVENTS:,} events to read", f"ready {replayed_in(release, newcomer.name):g} s after its start"
    )
    release.uninstall()


def calls_of_many() -> list[Event]:
    chance = random.Random(1)
    numbers = [f"+1555200{number:04d}" for number in range(CALLERS - 1)] + [NUMBER]
    return [
        ended(f"session-{number}", caller_id(chance.choice(numbers)), number + 1, duration=60, cost_breakdown=[])
        for number in range(EVENTS - 1)
    ] + [ended("the last", caller_id(NUMBER), EVENTS, duration=60, cost_breakdown=[])]


def caller_id(number: str) -> str:
    return _identity.id_of_number(number)


_identity = load_settings(identity_key=IDENTITY_KEY).identity()


def replayed_in(release: Release, pod: str) -> float:
    """Seconds from the start of the builder's container to the pod's readiness, by the cluster's clock."""
    status = json.loads(release.kubectl("get", "pod", pod, "--output", "json"))["status"]
    began = status["initContainerStatuses"][0]["state"]["running"]["startedAt"]
    (ready,) = (one["lastTransitionTime"] for one in status["conditions"] if one["type"] == "Ready")
    return (datetime.fromisoformat(ready) - datetime.fromisoformat(began)).total_seconds()
