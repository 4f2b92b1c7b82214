"""The published contracts: what they are generated from, what is kept of them, and that real events keep them."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from pydantic_asyncapi.v3 import AsyncAPI

from runtime.settings import Settings
from schemas.asyncapi import CONTRACT_VERSION
from schemas.export import documents
from schemas.topics import CATALOGUE, GROUP_CONSUMERS
from tests.contracts import scene
from tests.contracts.compatibility import breaks
from tests.contracts.contract import Contract

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "events.md"

KEPT = sorted((Contract(folder) for folder in HERE.glob("v*") if folder.is_dir()), key=lambda it: int(it.name[1:]))

# What is another one with each run: where the test's sounds are served from, and what the consumers' own clock said.
_RUN_BY_RUN = {
    "calls.prefetch": (("value", "answered"),),  # it has the time that it took
    "recordings.stored": [("headers", "ce_id"), ("value", "event_id"), ("value", "source_event_id")],
    "dead-letters.billing": [
        ("headers", "dead_letter_offset"),
        ("headers", "dead_letter_appended_ms"),
        ("headers", "dead_letter_time"),
    ],
}


def now() -> dict[str, Any]:
    return {name: json.loads(content) for name, content in documents().items()}


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_no_reader_of_an_older_contract_is_broken(kept: Contract) -> None:
    assert breaks(kept.files, now()) == []


def test_the_contract_of_now_is_kept() -> None:
    assert [kept.name for kept in KEPT] == [f"v{number}" for number in range(1, CONTRACT_VERSION + 1)]
    added = breaks(now(), KEPT[-1].files)  # seen from the other side
    assert added == [], "the contract has grown: see tests/contracts/README.md"


def test_the_asyncapi_document_is_one() -> None:
    document = known_to_the_model(now()["asyncapi.json"])
    # Whatever the model does not know comes back from it no more.
    assert AsyncAPI.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True) == document


@pytest.mark.parametrize(
    ("where", "member", "value"),
    [
        (("operations", "read calls.ended"), "action", "look"),
        (("operations", "read calls.ended"), "channel", {}),
        (("channels", "calls.prefetch", "bindings", "kafka"), "partitions", "many"),
    ],
)
def test_what_is_no_asyncapi_document_is_found(where: tuple[str, ...], member: str, value: Any) -> None:
    document = known_to_the_model(now()["asyncapi.json"])
    place = document
    for part in where:
        place = place[part]
    place[member] = value
    with pytest.raises(ValidationError, match=member):
        AsyncAPI.model_validate(document)


def known_to_the_model(document: dict[str, Any]) -> dict[str, Any]:
    """Without what `pydantic_asyncapi` 0.3 has no model of: bindings of messages, and the configuration of topics."""
    for channel in document["channels"].values():
        assert channel["bindings"]["kafka"].pop("topicConfiguration")
    for message in document["components"]["messages"].values():
        assert message.pop("bindings").keys() == {"kafka"}
    return document


def test_every_reference_leads_somewhere() -> None:
    document = now()["asyncapi.json"]
    found = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert found
    for reference in found:
        place = document
        for part in reference.split("/"):
            place = place[part]


@pytest.mark.parametrize("name", [name for name in documents() if name != "asyncapi.json"])
def test_the_json_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(now()[name])


def test_every_topic_has_a_channel() -> None:
    channels = now()["asyncapi.json"]["channels"]
    assert channels["dead-letters"]["parameters"]["consumer"]["examples"] == list(GROUP_CONSUMERS)
    assert channels["dead-letters"]["address"] == "dead-letters.{consumer}"
    own = {topic.name for topic in CATALOGUE if not topic.name.startswith("dead-letters.")}
    assert channels.keys() == own | {"dead-letters"}
    facts = channels["callers.facts"]["bindings"]["kafka"]["topicConfiguration"]
    assert (facts["cleanup.policy"], facts["retention.ms"]) == (["compact"], -1)


def test_a_prefix_and_partitions_are_those_of_the_cluster() -> None:
    document = json.loads(documents("team-a.", 24, 3)["asyncapi.json"])
    assert document["channels"]["calls.ended"]["address"] == "team-a.calls.ended"
    assert document["channels"]["dead-letters"]["address"] == "team-a.dead-letters.{consumer}"
    kafka = document["channels"]["calls.ended"]["bindings"]["kafka"]
    assert (kafka["topic"], kafka["partitions"], kafka["replicas"]) == ("team-a.calls.ended", 24, 3)


async def test_real_events_keep_every_contract_and_the_page_shows_them(
    settings: Settings, topics: tuple[str, ...], tmp_path: Path
) -> None:
    found = await scene.play(settings, tmp_path)
    wrong = [
        f"{kept.name}: {complaint}"
        for kept in KEPT
        for topic, records in found.items()
        for record in records
        if topic != "calls.ended" or record.header("ce_subject") != scene.FOREIGN_SESSION
        for complaint in kept.complaints(topic, scene.sample(record, settings.topic_prefix))
    ]
    assert wrong == []
    assert len(found["calls.ended"]) > 40  # the odd shapes, too
    assert any(record.value is None for record in found["callers.facts"])
    samples = {topic: scene.sample(record, settings.topic_prefix) for topic, record in scene.plainest(found).items()}
    if os.environ.get("RINGLOG_TEST_WRITE_EXAMPLES"):
        write(samples)
    for topic, made in samples.items():
        shown = example(topic)
        for part, member in _RUN_BY_RUN.get(topic, ()):
            made[part][member] = shown[part][member]
        assert shown == made, f"the example of {topic} in docs/events.md: see tests/contracts/README.md"


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_a_record_that_is_none_of_its_topic_is_complained_of(kept: Contract) -> None:
    sample = example("calls.ended")
    assert kept.complaints("calls.ended", sample) == []
    assert kept.complaints("calls.ended", sample | {"key": "+14155550199"})
    assert kept.complaints("calls.ended", sample | {"headers": {}})
    assert kept.complaints("calls.ended", sample | {"value": sample["value"] | {"received_at": "now"}})
    sealed = {name: value for name, value in sample["value"].items() if name != "body"} | {"sealed": "A1B2"}
    assert kept.complaints("calls.ended", sample | {"value": sealed}) == []


def _block(topic: str) -> re.Pattern[str]:
    name = "dead-letters.<consumer>" if topic.startswith("dead-letters.") else topic
    return re.compile(rf"(^## `{re.escape(name)}`\n.*?```json\n)(.*?)(```)", re.DOTALL | re.MULTILINE)


def example(topic: str) -> Any:
    """The record that docs/events.md shows of a topic."""
    block = _block(topic).search(PAGE.read_text())
    assert block, f"docs/events.md shows no record of {topic}"
    return json.loads(block[2])


def write(samples: dict[str, Any]) -> None:
    page = PAGE.read_text()
    for topic, sample in samples.items():
        text = json.dumps(sample, indent=2, ensure_ascii=False) + "\n"
        page = _block(topic).sub(lambda block, text=text: block[1] + text + block[3], page)
    PAGE.write_text(page)
