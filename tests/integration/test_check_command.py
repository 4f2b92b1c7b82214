"""`ringlog check`: a call goes through and is found, what is in its way is named, and no book knows it."""

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from consumers.billing import Billing
from consumers.call_log import CallLog
from consumers.process import run_consumer
from consumers.recomputed_ledger import RecomputedLedger
from consumers.tables import billing_entries, call_log, positions, transcripts
from consumers.transcripts import Transcripts
from runtime.settings import Settings
from schemas.check import CHECK_SESSION
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH
from tests.building import folded_afresh
from tests.edge import Edge, records_of, running

CLOSED = "127.0.0.1:9"  # the port of a protocol that nobody serves


@dataclass
class Result:
    exit_code: int
    stdout: str
    stderr: str


async def check(settings: Settings, *arguments: str, **environment: str) -> Result:
    """In a process of its own: the service runs in this one."""
    said = {
        "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "RINGLOG_TOPIC_PREFIX": settings.topic_prefix,
        "RINGLOG_WEBHOOK_KEYS": "tests:webhook-secret-of-the-tests",
        "RINGLOG_DATA_DIR": str(settings.data_dir),
        "COLUMNS": "200",
        **environment,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "check", *arguments, env={**os.environ, **said}, stdout=PIPE, stderr=PIPE
    )
    stdout, stderr = await process.communicate()
    return Result(process.returncode or 0, stdout.decode(), stderr.decode())


async def found(settings: Settings, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and the findings by what was looked at."""
    result = await check(settings, *arguments, "--json", **environment)
    told = json.loads(result.stdout)
    assert told["good"] is (result.exit_code == 0)
    return result.exit_code, {finding["what"]: finding for finding in told["findings"]}


async def test_a_call_goes_through_both_webhooks_and_is_found_in_both_topics(edge: Edge, settings: Settings) -> None:
    result = await check(settings, "--url", edge.url)
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["good"] * 4
    for topic in (CALLS_PREFETCH, CALLS_ENDED):
        (record,) = await records_of(settings, topic)
        assert (record.header("ce_subject") or "").startswith(CHECK_SESSION)


async def test_a_wrong_key_is_the_service_s_answer_and_nothing_is_looked_for(edge: Edge, settings: Settings) -> None:
    code, findings = await found(settings, "--url", edge.url, "--key", "another")
    assert code == 1
    assert list(findings) == ["prefetch", "end of call"]
    assert "status 401" in findings["prefetch"]["said"]


async def test_a_service_that_is_not_there_is_named(settings: Settings, topics: tuple[str, ...]) -> None:
    code, findings = await found(settings, "--url", f"http://{CLOSED}", "--patience", "1")
    assert code == 1
    assert findings["end of call"]["said"].startswith(f"http://{CLOSED} gave no answer")


async def test_a_service_that_is_not_there_yet_is_waited_for(settings: Settings, topics: tuple[str, ...]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    checking = asyncio.create_task(found(settings, "--url", f"http://127.0.0.1:{port}", "--patience", "30"))
    await asyncio.sleep(3)  # longer than the command takes to start
    async with running(settings.model_copy(update={"port": port})):
        assert (await checking)[0] == 0


async def test_without_kafka_the_webhooks_are_looked_at_all_the_same(edge: Edge, settings: Settings) -> None:
    code, findings = await found(settings, "--url", edge.url, RINGLOG_KAFKA_BOOTSTRAP_SERVERS=CLOSED)
    assert code == 1
    assert findings["end of call"]["good"] and findings["prefetch"]["good"]
    assert not findings[settings.topic_prefix + "calls.ended"]["good"]


async def test_a_service_with_another_kafka_is_found_out(settings: Settings, topics: tuple[str, ...]) -> None:
    alone = settings.model_copy(update={"kafka_bootstrap_servers": CLOSED})
    async with running(alone, connected=False) as edge:
        code, findings = await found(settings, "--url", edge.url, "--patience", "1")
    assert code == 1
    assert "not there within 1 s" in findings[settings.topic_prefix + "calls.ended"]["said"]


async def test_what_is_not_said_is_one_sentence_with_exit_code_2(settings: Settings) -> None:
    nowhere = await check(settings)
    assert (nowhere.exit_code, "--url" in nowhere.stderr) == (2, True)
    no_key = await check(settings, "--url", "http://127.0.0.1:1", RINGLOG_WEBHOOK_KEYS="")
    assert (no_key.exit_code, "RINGLOG_WEBHOOK_KEYS is not set" in no_key.stderr) == (2, True)
    no_url = await check(settings, "--url", "ringlog")
    assert (no_url.exit_code, "is no URL" in no_url.stderr) == (2, True)


async def test_no_book_knows_it_and_positions_pass_it(edge: Edge, settings: Settings, engine: Engine) -> None:
    assert (await check(settings, "--url", edge.url)).exit_code == 0
    stop = asyncio.Event()
    consumers = [
        asyncio.create_task(run_consumer(settings, consumer, engine, stop, []))
        for consumer in (Billing(), CallLog(), Transcripts())
    ]
    passed = select(func.sum(positions.c.next_offset))
    async with asyncio.timeout(30):
        while True:
            with engine.connect() as tx:
                if tx.scalar(passed) == 4:  # its end three times, its announcement once
                    break
            await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*consumers)
    with engine.connect() as tx:
        for table in (billing_entries, call_log, transcripts):
            assert tx.scalar(select(func.count()).select_from(table)) == 0
    with RecomputedLedger.open() as ledger:
        ledger.add(await records_of(settings, CALLS_ENDED))
        assert (ledger.sessions(), ledger.unreadable) == (0, 0)


async def test_the_state_knows_nobody_by_it(edge: Edge, settings: Settings, tmp_path: Path) -> None:
    assert (await check(settings, "--url", edge.url)).exit_code == 0
    assert [len(await records_of(settings, topic)) for topic in (CALLS_PREFETCH, CALLS_ENDED)] == [1, 1]
    assert {name for name, _, _ in await folded_afresh(settings, tmp_path / "store")} <= {"meta"}
