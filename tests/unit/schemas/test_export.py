"""docs/schemas says what the structs say, and docs/events.md speaks of every topic. Contracts: tests/contracts."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import dead_letter
from schemas.event import headers_of
from schemas.export import documents, write
from schemas.kinds import KINDS, headers_schema
from schemas.topics import CATALOGUE

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "schemas"
PAGE = (ROOT / "docs" / "events.md").read_text()


def section(topic: str) -> str:
    found = re.search(rf"^## `{re.escape(topic)}`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/events.md has no section on {topic}"
    return found[1]


def schema(name: str) -> Any:
    return msgspec.json.decode(documents()[name])


def test_the_committed_contracts_are_those_of_the_code() -> None:
    committed = {file.name: file.read_bytes() for file in DOCS.glob("*.json")}
    assert committed == documents(), "run: python -m schemas.export docs/schemas"


def test_every_topic_has_a_schema_and_a_section() -> None:
    for topic in CATALOGUE:
        if topic.name.startswith("dead-letters."):
            assert topic.name in section("dead-letters.<consumer>")
        else:
            assert f"{topic.name}.json" in documents()
            assert f"[Schema](schemas/{topic.name}.json)" in section(topic.name)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_type_of_event_is_named_where_its_topic_is_described(kind: Any) -> None:
    assert f"`{kind.event_type}`" in section(kind.topic.name)


def test_the_headers_of_a_dead_letter_are_named() -> None:
    for name in dead_letter.HEADERS | dead_letter.HEADERS_OF_A_HEAD:
        assert f"`{name}`" in section("dead-letters.<consumer>")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_headers_that_are_promised_are_those_that_are_written(kind: Any) -> None:
    written = headers_of(kind.event_type, "e1", 0, "s1" if kind.of_session else None)
    assert {name for name, _ in written} == headers_schema(kind)["properties"].keys()


def test_the_body_of_a_call_is_described_in_its_event() -> None:
    found = schema("calls.ended.json")["$defs"]
    assert found["CallEnded"]["properties"]["body"]["allOf"] == [{"$ref": "#/$defs/EndOfCall"}]
    assert found["EndOfCall"]["properties"]["chat"]["default"] is None
    assert found["Voip"]["properties"].keys() == {"provider", "from", "to"}


def test_a_member_of_the_body_may_be_anything() -> None:
    members = schema("calls.ended.json")["$defs"]["EndOfCall"]["properties"]
    assert members["duration"]["anyOf"] == [{"type": "number"}, {"type": "null"}, {}]
    assert all({} in member.get("anyOf", [{}]) and "type" not in member for member in members.values())


@pytest.mark.parametrize("topic", ["calls.prefetch", "calls.ended"])
def test_a_reader_expects_that_the_body_may_be_sealed(topic: str) -> None:
    (envelope,) = (it for it in schema(f"{topic}.json")["$defs"].values() if "sealed" in it["properties"])
    assert "body" in envelope["properties"]
    assert not {"body", "sealed"} & set(envelope["required"])


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", {"x.json": b"{}\n"})
    assert (tmp_path / "a" / "b" / "x.json").read_bytes() == b"{}\n"
