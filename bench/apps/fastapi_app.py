"""The peer: what a competent user of FastAPI writes for the two webhooks, with pydantic models.

It does less than ringlog. Prefetch is the lookup alone: no credential, no metrics, no template, no event. End of call
decodes, and answers when Kafka has acknowledged on all in-sync replicas: no credential, no redaction, no quarantine,
no verbatim copy of what the model doesn't know (`extra="allow"` keeps it). Its store has the number as key and JSON
as value, which pydantic reads faster than anything else: no hash, no checksum.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import lmdb
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field


class Profile(BaseModel):
    facts: dict[str, Any]
    metadata: dict[str, Any]
    calls: int
    last_call_at: str | None
    last_status: str | None
    last_agent: str | None


class Answer(BaseModel):
    metadata: dict[str, Any] = {}
    extra_prompt: str = ""


class Cost(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: str | None = None
    provider: str | None = None
    credit: float | None = None


class Voip(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    provider: str | None = None
    from_: str | None = Field(None, alias="from")
    to: str | None = None


class Recording(BaseModel):
    recording_url: str | None = None


class EndOfCall(BaseModel):
    model_config = ConfigDict(extra="allow")
    session_id: str
    agent_id: str | None = None
    call_id: str | None = None
    ts: float | None = None
    duration: float | None = None
    chars_used: int | None = None
    call_status: str | None = None
    error_message: str | None = None
    chat: str | None = None
    function_calls: list[dict[str, Any]] | None = None
    agent_config: dict[str, Any] | None = None
    cost_breakdown: list[Cost] | None = None
    voip: Voip | None = None
    recording: Recording | None = None
    metadata: dict[str, Any] | None = None


class Accepted(BaseModel):
    session_id: str


TOPIC = os.environ["BENCH_TOPIC"]
store = lmdb.open(os.environ["BENCH_STORE"], readonly=True, lock=False, max_spare_txns=1)
producers: list[AIOKafkaProducer] = []


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    # As safe as ringlog's, and with its batch size: the default of 16 KiB would make FastAPI wait much longer.
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["BENCH_KAFKA"], acks="all", enable_idempotence=True, max_batch_size=1024 * 1024
    )
    await producer.start()
    producers.append(producer)
    yield
    await producer.stop()


app = FastAPI(lifespan=lifespan)


@app.get("/webhooks/prefetch")
async def prefetch(
    session_id: str,
    agent_id: str | None = None,
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
) -> Answer:
    with store.begin() as tx:
        found = tx.get((from_ or "").encode())
    if found is None:
        return Answer()
    profile = Profile.model_validate_json(found)
    metadata = {
        **profile.metadata,
        **profile.facts,
        "ringlog_facts": sorted(profile.facts),
        "ringlog_calls": profile.calls,
        "ringlog_last_call_at": profile.last_call_at,
        "ringlog_last_status": profile.last_status,
        "ringlog_last_agent": profile.last_agent,
    }
    times = "time" if profile.calls == 1 else "times"
    day = (profile.last_call_at or "")[:10]
    prompt = f"This caller has called {profile.calls} {times} before, the last time on {day}."
    return Answer(metadata=metadata, extra_prompt=prompt)


@app.post("/webhooks/end-of-call")
async def end_of_call(call: EndOfCall) -> Accepted:
    caller = call.voip.from_ if call.voip and call.voip.from_ else call.session_id
    value = call.model_dump_json(by_alias=True).encode()
    await producers[0].send_and_wait(TOPIC, value, key=caller.encode())
    return Accepted(session_id=call.session_id)
