"""A pass over what is missing: a provider over real HTTP, the log of calls in both databases, and a real topic."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine, select

from cli.reconciler import ledger
from cli.reconciler.millis_api import ApiUnavailable, MillisApi, Stopped
from cli.reconciler.reconciliation import Reconciliation, Tally
from consumers.billing import Billing
from consumers.call_log import CallLog
from consumers.database import migrate, open_engine
from consumers.tables import reconciliations
from runtime.settings import Settings
from schemas.event import Record, decode_envelope
from schemas.topics import CALLS_ENDED
from service.ended_call import EndedCalls
from service.journal import Journal
from tests.ended_calls import ended, prefetched, time_us
from tests.faults.whole_topic import whole_topic
from tests.integration.call_api import Provider, provided, told

NOW_US = time_us(0) + 8 * 3_600_000_000  # past the longest call after everything here
PRICED = [{"type": "stt", "provider": "millis", "credit": 0.0043}]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with provided() as provider:
        yield provider


@pytest.fixture
async def books(settings: Settings, database_url: str, topics: tuple[str, ...]) -> AsyncIterator["Books"]:
    settings = settings.model_copy(update={"database_url": database_url, "spool_max_bytes": 0})
    migrate(settings)
    engine = open_engine(settings)
    journal, stop = Journal(settings, (CALLS_ENDED,)), asyncio.Event()
    running = asyncio.create_task(journal.run(stop))
    async with asyncio.timeout(30):
        while not journal.is_connected:  # noqa: ASYNC110 - a journal tells nobody
            await asyncio.sleep(0.02)
    yield Books(settings, engine, journal)
    stop.set()
    await running
    engine.dispose()


class Books:
    def __init__(self, settings: Settings, engine: Engine, journal: Journal) -> None:
        self.settings = settings
        self.engine = engine
        self.journal = journal
        self.now_us = NOW_US
        self.stop = asyncio.Event()

    def know(self, *records: Record) -> None:
        with self.engine.begin() as tx:
            CallLog().handle(tx, records)
            Billing().handle(tx, [record for record in records if record.topic == CALLS_ENDED.name])

    async def reconcile(self, provider: Provider, since_us: int = 0) -> Tally:
        ended_calls = EndedCalls(self.settings.identity(), lambda: self.now_us, self.settings.max_request_bytes)
        async with MillisApi(provider.url, "private", 1000.0, self.stop) as api:
            it = Reconciliation(api, self.engine, self.journal, ended_calls, 7200.0, lambda: self.now_us)
            await it.run(since_us)
        return it.tally

    async def published(self) -> list[Record]:
        return await whole_topic(self.settings, CALLS_ENDED)

    def noted(self) -> dict[str, str]:
        with self.engine.connect() as tx:
            return {row.session_id: row.said for row in tx.execute(select(reconciliations))}


async def test_what_is_missing_is_published_once_and_marked(books: Books, provider: Provider) -> None:
    secret = {"tools": [{"name": "t", "header": {"authorization": "Bearer of-somebody"}}]}
    provider.calls = {"-a": told("-a", cost_breakdown=PRICED, agent_config=secret), "b": told("b"), "c": told("c")}
    provider.listed = ["-a", "c"]
    books.know(prefetched("-a", 1), prefetched("b", 1), prefetched("c", 1), ended("c", 5, {"cost_breakdown": PRICED}))
    tally = await books.reconcile(provider)
    assert (tally.recovered, tally.known) == (2, 1)
    assert provider.asked == ["-a", "b"], "each once, though both the list and our own log lack the first"
    records = {record.header("ce_subject"): record for record in await books.published()}
    assert sorted(records) == ["-a", "b"]
    envelope = decode_envelope(records["-a"].value or b"")
    body = json.loads(bytes(envelope.body))
    assert envelope.recovered and envelope.session_id == "-a"
    assert body["call_status"] == "user-ended" and body["cost_breakdown"] == PRICED
    assert b"of-somebody" not in (records["-a"].value or b"")
    again = await books.reconcile(provider)
    assert (again.recovered, again.known) == (0, 2), "although the log of calls has not read it yet"


async def test_calls_that_cannot_be_had_keep_nothing_up(books: Books, provider: Provider) -> None:
    books.know(*(prefetched(name, place) for place, name in enumerate(("bad", "gone", "running", "odd", "good"))))
    provider.calls = {
        "bad": 422,
        "running": told("running", status="in-progress"),
        "odd": {"session_id": ["no name"], "cost_breakdown": 5, "duration": 1, "agent_config": {"a": "b" * 5}},
        "good": told("good"),
    }
    tally = await books.reconcile(provider)
    assert (tally.failed, tally.unknown, tally.unfinished, tally.recovered) == (1, 1, 1, 2)
    noted = {"bad": "failed", "gone": "unknown", "running": "unfinished", "odd": "recovered", "good": "recovered"}
    assert books.noted() == noted
    provider.asked.clear()
    await books.reconcile(provider)
    assert provider.asked == [], "all of them rest"
    books.now_us += round(ledger.ASK_AGAIN_S * 1_000_000) + 1
    await books.reconcile(provider)
    assert provider.asked == ["bad", "gone", "running", "odd", "good"], "what was recovered may not have been read"


async def test_a_price_that_was_unknown_is_asked_for_and_nothing_else_is_news(books: Books, provider: Provider) -> None:
    books.know(ended("priced-later", 1, {"duration": 5}), ended("still-unpriced", 2, {"duration": 5}))
    provider.calls = {
        "priced-later": told("priced-later", cost_breakdown=PRICED),
        "still-unpriced": told("still-unpriced", cost_breakdown=None),
    }
    tally = await books.reconcile(provider)
    assert (tally.recovered, tally.unpriced) == (1, 1)
    (record,) = await books.published()
    books.know(record)
    with books.engine.connect() as tx:
        assert ledger.unpriced(tx, books.now_us, 10, ledger.START) == []


async def test_trouble_of_the_api_ends_the_pass_and_what_was_asked_is_noted(
    books: Books, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.reconciler.millis_api.TRIES", 1)
    books.know(*(prefetched(name, place) for place, name in enumerate("abcdef")))
    provider.calls = {"a": told("a"), **dict.fromkeys("bcd", 500)}
    with pytest.raises(ApiUnavailable):
        await books.reconcile(provider)
    assert provider.asked == ["a", "b", "c", "d"]
    assert books.noted() == {"a": "recovered", "b": "failed", "c": "failed"}


async def test_the_list_is_remembered_and_recent_calls_are_left_alone(books: Books, provider: Provider) -> None:
    await books.reconcile(provider)
    with books.engine.connect() as tx:
        assert ledger.read_until(tx) == NOW_US - 300_000_000
    provider.listed = ["never"]
    assert (await books.reconcile(provider, since_us=NOW_US)).known == 0 and provider.asked == []


async def test_who_is_stopped_keeps_what_it_has(books: Books, provider: Provider) -> None:
    books.know(prefetched("a", 1))
    books.stop.set()
    with pytest.raises(Stopped):
        await books.reconcile(provider)
    assert books.noted() == {}
