"""The same consumer as `one_by_one`, with the tables that come to mind first: a row a turn, found by a `tsvector`.

`python -m bench.apps.row_a_turn transcripts`, in tables of its own beside ringlog's, which are made beforehand.
"""

import psycopg
import uvloop

from bench.apps.one_by_one import consume
from consumers.calls import EndedCall
from consumers.transcripts import account_of

TABLES = """
CREATE TABLE plain_calls (
    session_id text PRIMARY KEY, event_id text NOT NULL, received_at bigint NOT NULL, agent_id text,
    caller_id text NOT NULL, status text, started_at bigint, duration_ms bigint
);
CREATE INDEX plain_calls_caller ON plain_calls (caller_id);
CREATE INDEX plain_calls_agent ON plain_calls (agent_id, received_at);
CREATE TABLE plain_turns (
    session_id text REFERENCES plain_calls ON DELETE CASCADE, position integer, role text NOT NULL, original_role text,
    text text NOT NULL, search tsvector GENERATED ALWAYS AS (to_tsvector('simple', left(text, 100000))) STORED,
    PRIMARY KEY (session_id, position)
);
CREATE INDEX plain_turns_search ON plain_turns USING gin (search);
CREATE TABLE plain_functions (
    session_id text REFERENCES plain_calls ON DELETE CASCADE, position integer, name text NOT NULL, params text,
    result text, PRIMARY KEY (session_id, position)
)
"""
CALL = (
    "INSERT INTO plain_calls (session_id, event_id, received_at, agent_id, caller_id, status, started_at, duration_ms)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (session_id) DO UPDATE SET event_id = excluded.event_id, received_at = excluded.received_at,"
    " status = excluded.status, duration_ms = excluded.duration_ms"
)
TURN = (
    "INSERT INTO plain_turns (session_id, position, role, original_role, text) VALUES (%s, %s, %s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)
FUNCTION = (
    "INSERT INTO plain_functions (session_id, position, name, params, result) VALUES (%s, %s, %s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)


async def write(cursor: psycopg.AsyncCursor, call: EndedCall) -> None:
    account = account_of(call)
    session, turns, functions = call.session_id, account.chat.turns, account.functions.calls
    about = session, call.event_id, call.received_at, call.agent_id, call.caller.id, account.status.value
    await cursor.execute(CALL, (*about, account.started_at, account.duration_ms))
    if turns:
        rows = [(session, place, it.role, it.original_role, it.text) for place, it in enumerate(turns)]
        await cursor.executemany(TURN, rows)
    if functions:
        calls = [(session, place, it.name, it.params, it.result) for place, it in enumerate(functions)]
        await cursor.executemany(FUNCTION, calls)


def make_tables(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TABLES)


if __name__ == "__main__":
    uvloop.run(consume(write))
