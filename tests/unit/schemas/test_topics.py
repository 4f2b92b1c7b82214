"""The catalogue of topics holds what the design promises."""

import pytest

from schemas.topics import CALLERS_FACTS, CALLS_REJECTED, CATALOGUE, DAY_MS, GROUP_CONSUMERS, Topic, dead_letters


def test_the_names_are_fixed() -> None:
    assert [topic.name for topic in CATALOGUE] == [
        "calls.prefetch",
        "calls.ended",
        "calls.rejected",
        "callers.facts",
        "billing.charges",
        "transcripts.ready",
        "recordings.stored",
        *(f"dead-letters.{consumer}" for consumer in GROUP_CONSUMERS),
    ]


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_every_topic_keeps_what_it_should(topic: Topic) -> None:
    config = topic.config(2)
    assert config["retention.ms"] == (str(30 * DAY_MS) if topic is CALLS_REJECTED else "-1")
    assert config["retention.bytes"] == "-1"
    assert config["cleanup.policy"] == ("compact" if topic is CALLERS_FACTS else "delete")
    assert config["max.message.bytes"] == str(10 * 1024 * 1024)
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert config["min.insync.replicas"] == "2"
    assert ("delete.retention.ms" in config) == (topic is CALLERS_FACTS)


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_every_topic_says_what_it_is(topic: Topic) -> None:
    assert topic.about.endswith(".")
    assert topic.owner
    assert topic.key


def test_a_prefix_goes_before_the_name() -> None:
    assert dead_letters("mine").named("team-a.") == "team-a.dead-letters.mine"
