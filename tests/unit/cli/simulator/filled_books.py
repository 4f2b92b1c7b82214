"""Books filled by hand with what a plan expects, in a real database and a real folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, make_url

from cli.simulator.call import Call, CallBooks, FunctionCall
from cli.simulator.plan import Plan
from cli.simulator.sound import wav
from consumers.database import engine_of, migrate
from consumers.tables import (
    billing_entries,
    call_log,
    recordings,
    transcripts,
)
from runtime.settings import load_settings


def _called(call: FunctionCall) -> dict[str, str | None]:
    params = None if call.params is None else json.dumps(call.params)
    return {"name": call.name, "params": params, "result": None if call.result is None else json.dumps(call.result)}


class FilledBooks:
    """`engine` is for spoiling what is there."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder / "recordings"
        self.url = f"sqlite:///{folder / 'ringlog.db'}"
        self.engine: Engine = engine_of(make_url(self.url))
        migrate(load_settings(database_url=self.url))
        for call in plan:
            if call.books is not None:
                self._write(call, call.books)
            if call.books is not None or call.is_announced:
                self.run(insert(call_log).values(self._logged(call, call.books)))

    def run(self, statement: Any) -> None:
        with self.engine.begin() as tx:
            assert tx.execute(statement).rowcount > 0

    def _logged(self, call: Call, books: CallBooks | None) -> dict[str, Any]:
        return {
            "session_id": call.session_id,
            "caller_id": "x",
            "direction": "unknown",
            "prefetched_at": 1 if call.is_announced else None,
            "ended_at": 2 if books else None,
            "recovered": call.lost,
            "first_heard_at": 1,
            "status": books.status if books else None,
        }

    def _write(self, call: Call, books: CallBooks) -> None:
        key = hashlib.sha256((books.caller or books.session_id).encode()).hexdigest()
        about = {"session_id": books.session_id, "agent_id": books.agent_id, "received_at": 1, "event_id": "first"}
        entries = [
            {**about, "type": type_, "provider": by, "kind": "charge", "amount_micros": micros, "caller_id": key}
            for (type_, by), micros in (books.costs or {}).items()
        ]
        transcript = {
            **about,
            "caller_id": key,
            "status": books.status,
            "original_status": books.original_status,
            "started_at": books.started_at,
            "duration_ms": books.duration_ms,
            "chat_state": books.chat_state,
            "turns": len(books.turns),
            "function_calls_state": "ok",
            "function_calls": len(books.function_calls),
            "said": json.dumps([text for _, text in books.turns]),
            "speakers": json.dumps([(role, role) for role, _ in books.turns]),
            "called": json.dumps([_called(it) for it in books.function_calls]),
        }
        with self.engine.begin() as tx:
            for table, rows in (
                (billing_entries, entries),
                (transcripts, [transcript]),
                (recordings, self._stored(books, about)),
            ):
                if rows:
                    tx.execute(insert(table), rows)

    def _stored(self, books: CallBooks, about: dict[str, Any]) -> list[dict[str, Any]]:
        if books.recording is None:
            return []
        name = f"agent/{books.session_id}.wav"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav(books.session_id))
        return [
            {
                **about,
                "status": "stored",
                "url": "http://127.0.0.1/",
                "caller": "{}",
                "object_stem": name.removesuffix(".wav"),
                "object": name,
                "bytes": books.recording.bytes,
                "sha256": books.recording.sha256,
                "attempts": 1,
                "next_attempt_at": 0,
                "leased_until": 0,
            }
        ]
