"""The kinds of record that lie in topics, as a reader meets them: their key, their headers, their value."""

from typing import Annotated, Any

import msgspec

from schemas.derived import Charged, RecordingStored, TranscriptReady
from schemas.event import (
    CALLER_FACT,
    CHARGED,
    ENDED,
    PREFETCHED,
    RECORDED,
    REJECTED,
    TRANSCRIBED,
    Envelope,
)
from schemas.facts import CallerFact
from schemas.rejected import Rejected
from schemas.shown import Body, shown
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

JsonSchema = dict[str, Any]

CALLER_KEY: JsonSchema = {
    "type": "string",
    "pattern": "^[0-9a-f]{32}$",
    "description": "The member `caller.id` of the value: all events of a caller share a partition, in order.",
}
FACT_KEY: JsonSchema = {
    "type": "string",
    "pattern": "^[0-9a-f]{32}/[^/]+$",
    "description": "`<caller_id>/<fact>`. The partition is chosen by the caller's id alone.",
}
NO_KEY: JsonSchema = {"type": "null", "description": "None."}

SEALED = "One day, in the place of `body`: the same, encrypted. Nothing is sealed yet."

QueryParameters = Annotated[
    dict[str, str | list[str]],
    msgspec.Meta(description="The parameters of the query; one that occurred twice has all of its values."),
]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is what the record is called in documents; `of_session`: its subject is a session."""

    name: str
    topic: Topic
    about: str
    event_type: str
    key: JsonSchema
    value: Any  # a struct's type; None for a record without a value
    of_session: bool = True


KINDS = (
    Kind(
        name="CallPrefetched",
        topic=CALLS_PREFETCH,
        about="A call is about to begin.",
        event_type=PREFETCHED,
        key=CALLER_KEY,
        value=shown(Envelope, "CallPrefetched", {"body": QueryParameters}, absent={"body"}, more={"sealed": SEALED}),
    ),
    Kind(
        name="CallEnded",
        topic=CALLS_ENDED,
        about="A call has ended.",
        event_type=ENDED,
        key=CALLER_KEY,
        value=shown(
            Envelope, "CallEnded", {"body": Body}, absent={"body"}, without={"answered"}, more={"sealed": SEALED}
        ),
    ),
    Kind(
        name="WebhookRejected",
        topic=CALLS_REJECTED,
        about="A webhook could not be read.",
        event_type=REJECTED,
        key=NO_KEY,
        value=shown(Rejected, "WebhookRejected"),
        of_session=False,
    ),
    Kind(
        name="CallerFact",
        topic=CALLERS_FACTS,
        about="A fact of a caller was set.",
        event_type=CALLER_FACT,
        key=FACT_KEY,
        value=shown(CallerFact, "CallerFact"),
        of_session=False,
    ),
    Kind(
        name="CallerFactDeleted",
        topic=CALLERS_FACTS,
        about="A fact of a caller was deleted: a record without a value.",
        event_type=CALLER_FACT,
        key=FACT_KEY,
        value=None,
        of_session=False,
    ),
    Kind(
        name="CallCharged",
        topic=BILLING_CHARGES,
        about="An event changed the bill of a call.",
        event_type=CHARGED,
        key=CALLER_KEY,
        value=shown(Charged, "CallCharged"),
    ),
    Kind(
        name="TranscriptReady",
        topic=TRANSCRIPTS_READY,
        about="The transcript of a call was written, or written anew.",
        event_type=TRANSCRIBED,
        key=CALLER_KEY,
        value=shown(TranscriptReady, "TranscriptReady"),
    ),
    Kind(
        name="RecordingStored",
        topic=RECORDINGS_STORED,
        about="The recording of a call was stored.",
        event_type=RECORDED,
        key=CALLER_KEY,
        value=shown(RecordingStored, "RecordingStored"),
    ),
)


def headers_schema(kind: Kind) -> JsonSchema:
    """The attributes of CloudEvents, as they lie in a record's headers: text in UTF-8."""
    properties: JsonSchema = {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {
            "type": "string",
            "description": "The event. The same event may come twice, under the same id. As `event_id` in the value.",
        },
        "ce_source": {"const": "/ringlog"},
        "ce_type": {"const": kind.event_type},
        "ce_time": {
            "type": "string",
            "format": "date-time",
            "description": "When it was received or made, in UTC, to the microsecond.",
        },
        "content-type": {"const": "application/json"},
    }
    required = list(properties)
    if kind.of_session:
        properties["ce_subject"] = {"type": "string", "description": "The session, as `session_id` in the value."}
        required.append("ce_subject")
    return {"type": "object", "properties": properties, "required": required}
