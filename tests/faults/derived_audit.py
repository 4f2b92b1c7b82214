"""What the consumers told the world: nothing missing, nothing invented; the same event twice is allowed."""

from typing import Any

import msgspec

from cli.simulator.call import Call
from runtime.settings import Settings
from schemas.derived import Charged, RecordingStored, TranscriptReady
from schemas.topics import BILLING_CHARGES, RECORDINGS_STORED, TRANSCRIPTS_READY, Topic
from tests.faults.history import History
from tests.faults.whole_topic import whole_topic

TOLD: dict[str, tuple[Topic, type[Any]]] = {
    "billing": (BILLING_CHARGES, Charged),
    "transcripts": (TRANSCRIPTS_READY, TranscriptReady),
    "recordings": (RECORDINGS_STORED, RecordingStored),
}


async def derived_wrong(settings: Settings, history: History, consumer: str) -> list[str]:
    """What the consumer's topic says that is not so, in sentences."""
    topic, shape = TOLD[consumer]
    wrong: list[str] = []
    values: dict[str, bytes] = {}
    told: dict[str, list[Any]] = {}
    for record in await whole_topic(settings, topic):
        event, value = msgspec.json.decode(record.value or b"", type=shape), record.value or b""
        if event.event_id != record.header("ce_id"):
            wrong.append(f"{topic.name}: {event.event_id} under the id {record.header('ce_id')}")
        if values.setdefault(event.event_id, value) == value and event not in told.get(event.session_id, []):
            told.setdefault(event.session_id, []).append(event)
        elif values[event.event_id] != value:
            wrong.append(f"{topic.name}: two events have the id {event.event_id}")
    wrong += [f"{it}: told by {topic.name}, and never sent" for it in told.keys() - history.calls.keys()]
    for session_id, call in history.calls.items():
        expected, said = _expected(consumer, call), _said(consumer, told.get(session_id, []))
        if expected != said:
            wrong.append(f"{session_id}: {topic.name} comes to {said}, not {expected}")
    return wrong


def _expected(consumer: str, call: Call) -> Any:
    books = call.books
    assert books is not None
    if consumer == "billing":
        return None if not books.costs else {key: micros for key, micros in books.costs.items() if micros} or None
    if consumer == "transcripts":
        return books.chat_state, len(books.turns), len(books.function_calls)
    return None if books.recording is None else {(books.recording.bytes, books.recording.sha256)}


def _said(consumer: str, events: list[Any]) -> Any:
    """Of one session. Bills add up; of transcripts the last word counts; a sound is stored once, or told alike."""
    if not events:
        return None
    if consumer == "billing":
        sums: dict[tuple[str, str], int] = {}
        for event in events:
            for charge in event.entries:
                sums[charge.type, charge.provider] = sums.get((charge.type, charge.provider), 0) + charge.amount_micros
        return {key: micros for key, micros in sums.items() if micros} or None
    if consumer == "transcripts":
        return events[-1].state, events[-1].turns, events[-1].function_calls
    return {(event.bytes, event.sha256) for event in events}
