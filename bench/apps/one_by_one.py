"""What a competent user writes: an event, a transaction, a committed offset, and the next one.

`python -m bench.apps.one_by_one billing|transcripts`. It decodes with ringlog's code and writes the same rows into the
same tables. It does less: no revisions, no derived events, no dead letters, no fencing; an event that comes again
overwrites what it wrote before.
"""

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import psycopg
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import Integer

from consumers.arrays import array_of, use_arrays
from consumers.bills import bill_of
from consumers.calls import EndedCall, ended_call
from consumers.transcripts import account_of
from runtime.kafka import record_of
from schemas.words import word_numbers

Write = Callable[[psycopg.AsyncCursor, EndedCall], Coroutine[Any, Any, None]]

ENTRY = (
    "INSERT INTO billing_entries (session_id, event_id, type, provider, kind, amount_micros, agent_id, caller_id,"
    " received_at) VALUES (%s, %s, %s, %s, 'charge', %s, %s, %s, %s)"
    " ON CONFLICT (session_id, event_id, type, provider) DO UPDATE SET amount_micros = excluded.amount_micros"
)
TRANSCRIPT = (
    "INSERT INTO transcripts (session_id, event_id, received_at, agent_id, caller_id, status, original_status,"
    " started_at, duration_ms, chat_state, turns, function_calls_state, function_calls, said, speakers, called, words)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (session_id) DO UPDATE SET event_id = excluded.event_id, received_at = excluded.received_at,"
    " status = excluded.status, duration_ms = excluded.duration_ms, chat_state = excluded.chat_state,"
    " turns = excluded.turns, function_calls = excluded.function_calls, said = excluded.said,"
    " speakers = excluded.speakers, called = excluded.called, words = excluded.words"
)

as_json = msgspec.json.Encoder().encode


async def write_bill(cursor: psycopg.AsyncCursor, call: EndedCall) -> None:
    bill = bill_of(call)
    if bill.charges:
        after = call.agent_id, call.caller.id, call.received_at
        rows = [(call.session_id, call.event_id, it.type, it.provider, it.amount_micros, *after) for it in bill.charges]
        await cursor.executemany(ENTRY, rows)


async def write_transcript(cursor: psycopg.AsyncCursor, call: EndedCall) -> None:
    account = account_of(call)
    turns, functions = account.chat.turns, account.functions.calls
    about = call.session_id, call.event_id, call.received_at, call.agent_id, call.caller.id, account.status.value
    when = account.status.original, account.started_at, account.duration_ms
    states = account.chat.state, len(turns), account.functions.state, len(functions)
    texts = [turn.text for turn in turns]
    said = as_json(texts).decode()
    words = array_of(Integer(), word_numbers(texts))  # psycopg would take longer
    speakers = as_json([(turn.role, turn.original_role) for turn in turns]).decode()
    called = as_json([{"name": it.name, "params": it.params, "result": it.result} for it in functions]).decode()
    await cursor.execute(TRANSCRIPT, (*about, *when, *states, said, speakers, called, words))


async def consume(write: Write) -> None:
    consumer = AIOKafkaConsumer(
        os.environ["BENCH_TOPIC"],
        bootstrap_servers=os.environ["RINGLOG_KAFKA_BOOTSTRAP_SERVERS"],
        group_id=os.environ["BENCH_GROUP"],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    async with await psycopg.AsyncConnection.connect(os.environ["RINGLOG_DATABASE_URL"], autocommit=True) as connection:
        use_arrays(connection)
        async for message in consumer:
            async with connection.transaction(), connection.cursor() as cursor:
                await write(cursor, ended_call(record_of(message)))
            await consumer.commit({TopicPartition(message.topic, message.partition): message.offset + 1})


if __name__ == "__main__":
    uvloop.run(consume({"billing": write_bill, "transcripts": write_transcript}[sys.argv[1]]))
