"""The published contracts as files, all generated: `python -m schemas.export docs/schemas`, or the command."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas.asyncapi import document
from schemas.kinds import KINDS, Kind
from schemas.shown import definitions
from schemas.topics import dead_letters

DIALECT = "https://json-schema.org/draft/2020-12/schema"

ASYNCAPI = "asyncapi.json"
DEAD_LETTERS = "dead-letters.json"

ANY_VALUE = (
    "The value of the event that could not be handled, byte for byte: mostly JSON, as the schema of its own topic has"
    " it. It may be anything."
)


def documents(prefix: str = "", partitions: int | None = None, replicas: int | None = None) -> dict[str, bytes]:
    """File name -> JSON: the AsyncAPI document, and a JSON Schema of the values of each topic.

    The three are those of `schemas.asyncapi.document`; a topic's schema is called by its name in the catalogue.
    """
    schemas = {f"{kind.topic.name}.json": _schema(kind) for kind in KINDS if kind.value}
    letters = {"$schema": DIALECT, "title": dead_letters("<consumer>").name, "description": ANY_VALUE}
    return {
        ASYNCAPI: _pretty(document(prefix, partitions, replicas)),
        **{name: _pretty(schema) for name, schema in (schemas | {DEAD_LETTERS: letters}).items()},
    }


def _schema(kind: Kind) -> dict[str, Any]:
    (reference,), found = definitions([kind.value], "#/$defs")
    about = {"$schema": DIALECT, "title": kind.topic.name, "description": kind.topic.about}
    return {**about, **reference, "$defs": found}


def _pretty(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def write(folder: Path, files: dict[str, bytes]) -> None:
    """The one function of this room that touches a disk. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]), documents())
