"""docs/schemas says what the structs say."""

import base64
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumers import dead_letters
from schemas.derived import Charged, RecordingStored, TranscriptReady
from schemas.end_of_call import decode_end_of_call
from schemas.event import Envelope
from schemas.export import documents
from schemas.facts import CallerFact
from schemas.rejected import Rejected, encode_head, sha256
from schemas.topics import CATALOGUE

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "schemas"
PAGE = (DOCS / "README.md").read_text()

VALUES: dict[str, Any] = {
    "calls.prefetch": Envelope,
    "calls.ended": Envelope,
    "calls.rejected": Rejected,
    "callers.facts": CallerFact,
    "billing.charges": Charged,
    "transcripts.ready": TranscriptReady,
    "recordings.stored": RecordingStored,
}


def section(topic: str) -> str:
    found = re.search(rf"^## `{re.escape(topic)}`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/schemas/README.md has no section on {topic}"
    return found[1]


def test_the_committed_schemas_are_those_of_the_structs() -> None:
    committed = {file.name: file.read_bytes() for file in DOCS.glob("*.json")}
    assert committed == documents(), "run: python -m schemas.export docs/schemas"


def test_every_topic_has_a_schema_and_a_section() -> None:
    for topic in CATALOGUE:
        if topic.name.startswith("dead-letters."):
            assert topic.name in section("dead-letters.<consumer>")
        else:
            assert f"{topic.name}.json" in documents()
            assert f"[Schema]({topic.name}.json)" in section(topic.name)


@pytest.mark.parametrize("topic", VALUES)
def test_the_examples_are_what_the_structs_read_and_write(topic: str) -> None:
    found = re.search(r"```json\n(.*?)```", section(topic), re.DOTALL)
    assert found
    value = msgspec.json.decode(found[1], type=VALUES[topic])
    # Nothing in the example that the struct doesn't know, and nothing missing.
    assert msgspec.json.decode(msgspec.json.encode(value)) == msgspec.json.decode(found[1])


def test_the_example_of_a_call_is_understood_whole() -> None:
    found = re.search(r"```json\n(.*?)```", section("calls.ended"), re.DOTALL)
    assert found
    call = decode_end_of_call(msgspec.json.decode(found[1], type=Envelope).body)
    cost = call.cost()
    assert cost is not None
    assert (cost.total_micros, len(call.chat_turns().turns), call.duration_ms) == (4300, 2, 300_000)


def test_the_headers_of_a_dead_letter_are_named() -> None:
    for name in ("CONSUMER", "ERROR", "MESSAGE", "TOPIC", "PARTITION", "OFFSET", "APPENDED", "TIME"):
        assert f"`{getattr(dead_letters, name)}`" in section("dead-letters.<consumer>")


def test_the_body_of_a_call_is_described_in_its_event() -> None:
    schema = msgspec.json.decode(documents()["calls.ended.json"])
    assert schema["$defs"]["Envelope"]["properties"]["body"]["$ref"] == "#/$defs/EndOfCall"
    assert schema["$defs"]["EndOfCall"]["properties"]["chat"]["default"] is None
    assert schema["$defs"]["Voip"]["properties"].keys() == {"provider", "from", "to"}


def test_the_example_of_a_rejected_webhook_adds_up() -> None:
    found = re.search(r"```json\n(.*?)```", section("calls.rejected"), re.DOTALL)
    assert found
    rejected = msgspec.json.decode(found[1], type=Rejected)
    received = base64.b64decode(rejected.head)
    assert (rejected.bytes, rejected.sha256, rejected.head) == (len(received), sha256(received), encode_head(received))
