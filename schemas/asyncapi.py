"""All that lies in the topics as one AsyncAPI 3 document, from the side of who reads it.

Source: the AsyncAPI specification 3.0.0, and its Kafka bindings 0.5.0.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from schemas.dead_letter import HEADERS as DEAD_LETTER_HEADERS
from schemas.dead_letter import HEADERS_OF_A_HEAD
from schemas.kinds import KINDS, JsonSchema, Kind, headers_schema
from schemas.shown import definitions
from schemas.topics import GROUP_CONSUMERS, PARTITIONS_ON_A_CLUSTER, Topic, dead_letters

# Of what is published, and counted up with each addition: tests/contracts keeps every version.
CONTRACT_VERSION = 2

ABOUT = """\
Every event of ringlog, from the side of an application that reads: `receive` is what yours does.

Records are CloudEvents 1.0 in Kafka's binary mode: attributes are headers, the value is JSON. At least once: the same
event may come twice under the same `ce_id`. What is here stays; new members, new topics and new types of events may
come, and `info.version` counts such additions: ignore what you don't know. docs/events.md says the rest."""

DEAD_LETTER = "DeadLetter"
DEAD_LETTERS = dead_letters("{consumer}")

_BINDING_VERSION = "0.5.0"


def document(prefix: str = "", partitions: int | None = None, replicas: int | None = None) -> dict[str, Any]:
    """The document, for topics under this prefix. Where nobody says how many partitions, it is our default."""
    of_topic: defaultdict[str, list[str]] = defaultdict(list)
    for kind in KINDS:
        of_topic[kind.topic.name].append(kind.name)
    topics = {kind.topic.name: kind.topic for kind in KINDS}
    channels = {name: _channel(topic, prefix, of_topic[name], partitions, replicas) for name, topic in topics.items()}
    letters = _channel(DEAD_LETTERS, prefix, [DEAD_LETTER], partitions, replicas)
    del letters["bindings"]["kafka"]["topic"]  # of each consumer another
    letters["parameters"] = {
        "consumer": {
            "description": "Whose: ringlog's own, or the group of one of yours.",
            "examples": list(GROUP_CONSUMERS),
        }
    }
    channels["dead-letters"] = letters
    references, schemas = definitions([kind.value for kind in KINDS if kind.value], "#/components/schemas")
    payloads = iter(references)
    messages = {kind.name: _message(kind, next(payloads) if kind.value else {"type": "null"}) for kind in KINDS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ringlog's events",
            "version": str(CONTRACT_VERSION),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {f"read {name}": _reading(name, channel) for name, channel in channels.items()},
        "components": {"messages": {**messages, DEAD_LETTER: _dead_letter()}, "schemas": schemas},
    }


def _channel(
    topic: Topic, prefix: str, messages: list[str], partitions: int | None, replicas: int | None
) -> dict[str, Any]:
    config = topic.config(min_insync=1)
    numbers = ("retention.ms", "retention.bytes", "delete.retention.ms", "max.message.bytes")
    kafka: dict[str, Any] = {"topic": topic.named(prefix), "partitions": partitions or PARTITIONS_ON_A_CLUSTER}
    if replicas:
        kafka["replicas"] = replicas
    kafka["topicConfiguration"] = {
        "cleanup.policy": [topic.cleanup],
        **{name: int(config[name]) for name in numbers if name in config},
    }
    return {
        "address": topic.named(prefix),
        "title": topic.name,
        "description": f"{topic.about} Key: {topic.key}. Written by: {topic.owner}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {**kafka, "bindingVersion": _BINDING_VERSION}},
    }


def _reading(name: str, channel: Mapping[str, Any]) -> dict[str, Any]:
    reference = f"#/channels/{name}"
    return {
        "action": "receive",
        "channel": {"$ref": reference},
        "messages": [{"$ref": f"{reference}/messages/{message}"} for message in channel["messages"]],
        "bindings": {
            "kafka": {
                "groupId": {"type": "string", "description": "One of your own; those of ringlog are `ringlog.*`."},
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


def _message(kind: Kind, payload: JsonSchema) -> dict[str, Any]:
    return {
        "name": kind.name,
        "title": kind.event_type,
        "summary": kind.about,
        "contentType": "application/json",
        "headers": headers_schema(kind),
        "payload": payload,
        "bindings": {"kafka": {"key": kind.key, "bindingVersion": _BINDING_VERSION}},
    }


def _dead_letter() -> dict[str, Any]:
    """What could not be handled may be anything; only what was added to it is known."""
    headers = DEAD_LETTER_HEADERS | HEADERS_OF_A_HEAD
    properties = {name: {"type": "string", "description": about} for name, about in headers.items()}
    return {
        "name": DEAD_LETTER,
        "title": "An event that a consumer could not handle",
        "summary": "Key, value and headers of the event, byte for byte, and headers that say why and from where.",
        "headers": {"type": "object", "properties": properties, "required": list(DEAD_LETTER_HEADERS)},
        "payload": {"description": "The event's own value: mostly JSON, as its own topic has it; it may be anything."},
        "bindings": {
            "kafka": {"key": {"description": "That of the event, or none."}, "bindingVersion": _BINDING_VERSION}
        },
    }
