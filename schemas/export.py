"""JSON Schemas of what flows, generated from the structs: `python -m schemas.export docs/schemas`."""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec

from schemas.derived import Charged, RecordingStored, TranscriptReady
from schemas.end_of_call import EndOfCall
from schemas.event import Envelope
from schemas.facts import CallerFact
from schemas.rejected import Rejected
from schemas.topics import (
    BILLING_CHARGES,
    CALLERS_FACTS,
    CALLS_ENDED,
    CALLS_PREFETCH,
    CALLS_REJECTED,
    RECORDINGS_STORED,
    TRANSCRIPTS_READY,
    Topic,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"

ENDED_BODY = (
    "What the provider sent, secrets redacted. No member is refused for its shape: expect others than these, members"
    " of other types, and none."
)

AnyJson = Annotated[Any, msgspec.Meta(description="Any JSON value.")]
QueryParameters = Annotated[
    dict[str, str | list[str]],
    msgspec.Meta(description="The parameters of the query; one that occurred twice has all of its values."),
]


def documents() -> dict[str, bytes]:
    """File name -> JSON Schema, one for each topic with values of our own making."""
    ended_body: Any = Annotated[(_shown(EndOfCall), msgspec.Meta(description=ENDED_BODY))]
    values: tuple[tuple[Topic, type], ...] = (
        (CALLS_PREFETCH, _shown(Envelope, {"body": QueryParameters})),
        (CALLS_ENDED, _shown(Envelope, {"body": ended_body})),
        (CALLS_REJECTED, _shown(Rejected)),
        (CALLERS_FACTS, _shown(CallerFact)),
        (BILLING_CHARGES, _shown(Charged)),
        (TRANSCRIPTS_READY, _shown(TranscriptReady)),
        (RECORDINGS_STORED, _shown(RecordingStored)),
    )
    return {f"{topic.name}.json": _schema(topic, value) for topic, value in values}


def _schema(topic: Topic, value: type) -> bytes:
    document = {"$schema": DIALECT, "title": topic.name, "description": topic.about, **msgspec.json.schema(value)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _shown(struct: type[msgspec.Struct], known: Mapping[str, Any] | None = None) -> type[msgspec.Struct]:
    """The struct as it looks from outside: raw JSON has no schema of its own, but may have a `known` one."""
    hints = {**get_type_hints(struct, include_extras=True), **(known or {})}
    fields = [_field(field, hints[field.name]) for field in msgspec.structs.fields(struct)]
    names = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    return msgspec.defstruct(
        struct.__name__,
        fields,
        namespace={"__doc__": inspect.cleandoc(struct.__doc__ or "")},
        rename=names,
        kw_only=True,
    )


def _field(field: msgspec.structs.FieldInfo, hint: Any) -> tuple[str, Any] | tuple[str, Any, Any]:
    if hint is msgspec.Raw:
        hint = AnyJson
    elif get_args(hint)[:1] == (msgspec.Raw,):
        hint = Annotated[(Any, *hint.__metadata__)]
    if field.required:
        return field.name, hint
    return field.name, hint, None if isinstance(field.default, msgspec.Raw) else field.default


def write(folder: Path) -> None:
    """The one function of this room that touches a disk; nothing that runs calls it."""
    for name, document in documents().items():
        (folder / name).write_bytes(document)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
