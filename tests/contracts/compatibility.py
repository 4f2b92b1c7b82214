"""What a new version of the contracts would break for readers of an older one.

Events stay in topics for ever. So a reader of the old contract meets new events, and one of the new contract old
events: a shape may become neither wider nor narrower. What may come is a member that may be absent, a message, a topic.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = Any

# They say something, and promise nothing.
_ANNOTATIONS = {"title", "description", "default", "examples", "format", "$schema", "$defs"}
_COMPARED = {"properties", "required", "items", "additionalProperties", "anyOf", "enum"}


def read(folder: Path) -> dict[str, Json]:
    """The contracts in a folder: file name -> document."""
    return {file.name: json.loads(file.read_bytes()) for file in sorted(folder.glob("*.json"))}


def breaks(old: dict[str, Json], new: dict[str, Json]) -> list[str]:
    """Sentences; none when every reader of the old contracts can read on."""
    return list(_of_files(old, new))


def _of_files(old: dict[str, Json], new: dict[str, Json]) -> Iterator[str]:
    for name, document in old.items():
        if name not in new:
            yield f"{name} is gone"
        elif "asyncapi" in document:
            yield from _of_asyncapi(document, new[name])
        else:
            yield from _Schemas(document, new[name]).breaks(name, document, new[name])


def _of_asyncapi(old: Json, new: Json) -> Iterator[str]:
    for name, channel in old["channels"].items():
        if name not in new["channels"]:
            yield f"the channel {name} is gone"
        else:
            yield from _of_channel(name, channel, new["channels"][name])
    for name, operation in old["operations"].items():
        if name not in new["operations"] or new["operations"][name]["action"] != operation["action"]:
            yield f"the operation {name!r} is gone"
    schemas = _Schemas(old, new)
    for name, message in old["components"]["messages"].items():
        if name not in new["components"]["messages"]:
            yield f"the message {name} is gone"
        else:
            yield from _of_message(name, message, new["components"]["messages"][name], schemas)


def _of_channel(name: str, old: Json, new: Json) -> Iterator[str]:
    if old["address"] != new["address"]:
        yield f"{name} has another address: {new['address']}"
    for message in old["messages"]:
        if message not in new["messages"]:
            yield f"{name} has no {message} any more"
    before, after = (channel["bindings"]["kafka"]["topicConfiguration"] for channel in (old, new))
    if before["cleanup.policy"] != after["cleanup.policy"]:
        yield f"{name} is cleaned in another way: {after['cleanup.policy']}"
    for limit in ("retention.ms", "retention.bytes", "delete.retention.ms"):
        if _kept(after.get(limit)) < _kept(before.get(limit)):
            yield f"{name} forgets earlier: {limit} is {after.get(limit)}"


def _kept(limit: int | None) -> float:
    return float("inf") if limit in (None, -1) else float(limit or 0)


def _of_message(name: str, old: Json, new: Json, schemas: "_Schemas") -> Iterator[str]:
    if old.get("contentType") != new.get("contentType"):
        yield f"{name} has another content type: {new.get('contentType')}"
    yield from schemas.breaks(f"{name}, key", old["bindings"]["kafka"]["key"], new["bindings"]["kafka"]["key"])
    yield from schemas.breaks(f"{name}, headers", old["headers"], new["headers"])
    yield from schemas.breaks(f"{name}", old["payload"], new["payload"])


class _Schemas:
    """Compares JSON Schemas of two documents, each with the definitions of its own."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old = old
        self._new = new

    def breaks(self, where: str, old: Json, new: Json) -> Iterator[str]:
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        for keyword in sorted((old.keys() | new.keys()) - _ANNOTATIONS - _COMPARED):
            if old.get(keyword) != new.get(keyword):
                yield f"{where}: {keyword} was {_said(old.get(keyword))}, is {_said(new.get(keyword))}"
        yield from _of_words(where, old.get("enum"), new.get("enum"))
        yield from self._of_members(where, old, new)
        for keyword in ("items", "additionalProperties"):
            before, after = old.get(keyword, True), new.get(keyword, True)
            if isinstance(before, dict) and isinstance(after, dict):
                yield from self.breaks(f"{where}[]", before, after)
            elif before != after:
                yield f"{where}: {keyword} was {_said(before)}, is {_said(after)}"
        before, after = old.get("anyOf", []), new.get("anyOf", [])
        if len(before) != len(after):
            yield f"{where}: it was {_said(before)}, is {_said(after)}"
        else:
            for one, other in zip(before, after, strict=True):
                yield from self.breaks(where, one, other)

    def _of_members(self, where: str, old: Json, new: Json) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        had_to, has_to = set(old.get("required", ())), set(new.get("required", ()))
        for name, schema in before.items():
            if name not in after:
                yield f"{where}.{name} is gone"
                continue
            if name in had_to - has_to:
                yield f"{where}.{name} was always there, and may be absent"
            if name in has_to - had_to:
                yield f"{where}.{name} must be there, and is absent in old events"
            yield from self.breaks(f"{where}.{name}", schema, after[name])
        for name in sorted(has_to - before.keys()):
            yield f"{where}.{name} is new and must be there, and is absent in old events"


def _of_words(where: str, old: list[Json] | None, new: list[Json] | None) -> Iterator[str]:
    if old is None or new is None:
        if old != new:
            yield f"{where}: its words were {_said(old)}, are {_said(new)}"
        return
    for word in old:
        if word not in new:
            yield f"{where}: {word!r} is no word of it any more, and stands in old events"
    for word in new:
        if word not in old:
            yield f"{where}: {word!r} is a new word, which no reader of the old contract expects"


def _resolved(schema: Json, document: Json) -> Json:
    """The schema itself, where there is a reference to it, alone or in an `allOf` beside annotations."""
    if schema is True:
        return {}
    if [*schema.get("allOf", ())][1:]:
        raise ValueError("an allOf of several schemas is nothing that this can compare")
    for inner in schema.get("allOf", ()):
        schema = {**_resolved(inner, document), **{key: schema[key] for key in schema.keys() - {"allOf"}}}
    if (reference := schema.get("$ref")) is None:
        return schema
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return _resolved({**found, **{key: schema[key] for key in schema.keys() - {"$ref"}}}, document)


def _said(value: Json) -> str:
    return "nothing" if value is None else json.dumps(value)
