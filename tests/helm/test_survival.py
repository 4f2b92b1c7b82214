"""What a release survives: scaled consumers, killed pods, pods killed while Kafka is away, and being uninstalled."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.helm.caller import number_of
from tests.helm.release import Release, Values
from tests.helm.waiting import eventually

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]


def with_billing(replicas: int = 1) -> Values:
    """One consumer is enough to see what becomes of it."""
    return {"consumers": {"calls": None, "transcripts": None, "billing": {"replicas": replicas}}}


@pytest.fixture(scope="module")
def release(new_release: Callable[..., Release]) -> Release:
    release = new_release()
    release.install(with_billing())
    return release


def all_callers_are_known(release: Release) -> None:
    """The state store of every replica knows of every caller as many calls as the topic has."""
    in_topic = Counter(number_of(session_id) for session_id in release.ended())
    for pod in release.pods("service"):
        for number in sorted(in_topic)[:3]:
            eventually(lambda pod=pod, number=number: pod.calls_of(number) == in_topic[number])


def test_a_consumer_that_becomes_two_and_one_again_keeps_the_books(release: Release) -> None:
    with release.calling() as calling:
        release.upgrade(with_billing(replicas=2))
        assert len(release.pods("billing")) == 2
        release.upgrade(with_billing(replicas=1))
        eventually(lambda: len(release.pods("billing")) == 1)
        calls = calling.stop()
    assert calls.failed == []
    release.wait_until_kept(calls)


def test_what_was_accepted_outlives_killed_pods(release: Release) -> None:
    volumes = release.volumes()
    with release.calling() as calling:
        zero, one = release.pods("service")
        (billing,) = release.pods("billing")
        zero.kill("builder", "consume", "profiles")
        billing.delete()
        one.delete()
        release.wait_until_ready("statefulset/ringlog", "deployment/ringlog-billing")
        zero.kill("server", "serve")
        release.wait_until_ready("statefulset/ringlog")
        calls = calling.stop()
    assert len(calls.accepted) > len(calls.failed)  # those fail that a killed server had in its hands
    release.wait_until_kept(calls)
    assert release.volumes() == volumes
    all_callers_are_known(release)
    afterwards = release.call()
    assert afterwards.failed == []


def test_what_waits_in_a_spool_outlives_its_pod(release: Release) -> None:
    broker = release.outside.kafka.broker
    broker.stop()
    try:
        calls = release.call(40)
        killed = release.pods("service")
        for pod in killed:
            pod.delete()
        release.wait_until_ready("statefulset/ringlog")
        assert {pod.uid for pod in killed}.isdisjoint(pod.uid for pod in release.pods("service"))
    finally:
        broker.restart()
    assert calls.failed == []
    assert len(calls.accepted) == 40
    release.wait_until_kept(calls)
    all_callers_are_known(release)


def test_a_release_that_is_installed_again_finds_its_state(
    release: Release, measured: Callable[[str, str], None]
) -> None:
    all_callers_are_known(release)
    volumes = release.volumes()
    release.uninstall()
    assert release.volumes() == volumes
    measured("from helm install to ready, on the volumes of before", f"{release.install(with_billing()):.1f} s")
    # Each replica resumes where it was: what it has read since its start is nothing, and it knows everybody.
    assert [pod.folded() for pod in release.pods("service")] == [0, 0]
    all_callers_are_known(release)
    assert release.call().failed == []
