"""What the books say: the tables that a user would read, and nothing of the code that wrote them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine, Row, Table, func, select

from cli.simulator.call import Costs, FunctionCall
from consumers.database import database_url, open_engine, read_only
from consumers.tables import (
    billing_entries,
    call_log,
    positions,
    recordings,
    transcript_function_calls,
    transcript_turns,
    transcripts,
)
from runtime.settings import Settings

# Sessions in one IN list.
BATCH = 500


class Transcript(msgspec.Struct):
    """A row of `transcripts` with its turns and function calls; a function's JSON texts are values here."""

    caller_id: str
    agent_id: str | None
    status: str | None
    original_status: str | None
    started_at: int | None
    duration_ms: int | None
    chat_state: str
    turns: list[tuple[str, str]] = []
    function_calls: list[FunctionCall] = []


class StoredRecording(msgspec.Struct):
    status: str
    object: str | None
    bytes: int | None
    sha256: str | None
    error: str | None


class WholeCall(msgspec.Struct):
    """What only the log of calls says of one."""

    prefetched: bool
    ended: bool
    recovered: bool
    status: str | None


class Said(msgspec.Struct):
    """Of one session; None where a book has no row. `costs` are sums of the ledger's entries."""

    call: WholeCall | None = None
    costs: Costs | None = None
    transcript: Transcript | None = None
    recording: StoredRecording | None = None


class CallerSums(msgspec.Struct):
    calls: int = 0
    total_micros: int = 0
    duration_ms: int = 0


class BookReader:
    """Blocks on the database: call it in a thread. Raises `sqlalchemy.exc.DBAPIError`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = read_only(engine)

    @classmethod
    def open(cls, settings: Settings) -> "BookReader":
        """Raises `runtime.settings.SettingsError`."""
        database_url(settings)
        return cls(open_engine(settings))

    def close(self) -> None:
        self._engine.dispose()

    def said(self, session_ids: Sequence[str]) -> dict[str, Said]:
        """For each of the sessions."""
        said = {session_id: Said() for session_id in session_ids}
        for row in self._rows(call_log, session_ids):
            said[row.session_id].call = WholeCall(
                row.prefetched_at is not None,
                row.ended_at is not None,
                row.recovered,
                row.status,
            )
        for row in self._rows(billing_entries, session_ids):
            costs = said[row.session_id].costs or {}
            costs[row.type, row.provider] = costs.get((row.type, row.provider), 0) + row.amount_micros
            said[row.session_id].costs = costs
        for row in self._rows(transcripts, session_ids):
            said[row.session_id].transcript = Transcript(
                row.caller_id,
                row.agent_id,
                row.status,
                row.original_status,
                row.started_at,
                row.duration_ms,
                row.chat_state,
            )
        for row in self._rows(transcript_turns, session_ids):
            if transcript := said[row.session_id].transcript:
                transcript.turns.append((row.role, row.text))
        for row in self._rows(transcript_function_calls, session_ids):
            if transcript := said[row.session_id].transcript:
                transcript.function_calls.append(FunctionCall(row.name, _value(row.params), _value(row.result)))
        for row in self._rows(recordings, session_ids):
            said[row.session_id].recording = StoredRecording(row.status, row.object, row.bytes, row.sha256, row.error)
        return said

    def sums(self, caller_ids: Iterable[str]) -> dict[str, CallerSums]:
        """By caller id, over everything in the books."""
        sums: dict[str, CallerSums] = {}
        counts = (func.count().label("calls"), func.sum(transcripts.c.duration_ms).label("duration_ms"))
        money = func.sum(billing_entries.c.amount_micros).label("micros")
        with self._engine.connect() as tx:
            for some in _batches(sorted(caller_ids)):
                of_calls = select(transcripts.c.caller_id, *counts).where(transcripts.c.caller_id.in_(some))
                for row in tx.execute(of_calls.group_by(transcripts.c.caller_id)):
                    sums[row.caller_id] = CallerSums(row.calls, 0, int(row.duration_ms or 0))
                of_money = select(billing_entries.c.caller_id, money).where(billing_entries.c.caller_id.in_(some))
                for row in tx.execute(of_money.group_by(billing_entries.c.caller_id)):
                    sums.setdefault(row.caller_id, CallerSums()).total_micros = int(row.micros)
        return sums

    def positions(self, topic: str) -> dict[tuple[str, int], int]:
        """The next offset by (consumer, partition), of the topic that ends with this name."""
        with self._engine.connect() as tx:
            rows = tx.execute(select(positions).where(positions.c.topic.endswith(topic, autoescape=True)))
            return {(row.consumer, row.partition): row.next_offset for row in rows}

    def _rows(self, table: Table, session_ids: Sequence[str]) -> Iterator[Row[Any]]:
        with self._engine.connect() as tx:
            for some in _batches(session_ids):
                yield from tx.execute(
                    select(table).where(table.c.session_id.in_(some)).order_by(*table.primary_key.columns)
                )


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _value(text: str | None) -> Any:
    """Text that is no JSON stays text: the comparison then shows it."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
