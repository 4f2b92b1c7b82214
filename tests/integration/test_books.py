"""The bill and the transcripts on real databases: whatever arrives in whatever order, the books come out the same."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from consumers.billing import Billing
from consumers.contract import Consumer, UnreadableEvent
from consumers.database import migrate, open_engine
from consumers.tables import billing_entries, metadata, transcript_function_calls, transcript_turns, transcripts
from consumers.transcripts import Transcripts
from runtime.settings import load_settings
from schemas.caller import Caller
from schemas.derived import Charged, TranscriptReady
from schemas.event import Record, decode_envelope
from tests.ended_calls import APPENDED_MS, CALLER, ended
from tests.posted import events_in

BOOKS = (billing_entries, transcripts, transcript_turns, transcript_function_calls)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    of_this_test = load_settings(database_url=database_url)
    migrate(of_this_test)
    engine = open_engine(of_this_test)
    yield engine
    engine.dispose()


def consume(engine: Engine, *batches: Sequence[Record], by: Sequence[Consumer] = (Billing(), Transcripts())) -> None:
    for batch, consumer in itertools.product(batches, by):
        with engine.begin() as tx:
            consumer.handle(tx, batch)


def books(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as tx:
        return {
            table.name: [tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key))]
            for table in BOOKS
        }


def told(engine: Engine, consumer: str, shape: type[Any]) -> list[Any]:
    events = [(msgspec.json.decode(it.value, type=shape), it.event_id) for it in events_in(engine, consumer)]
    assert all(event.event_id == id_ for event, id_ in events)
    assert len({id_ for _, id_ in events}) == len(events)
    return [event for event, _ in events]


def forget(engine: Engine) -> None:
    with engine.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())


# The oracle: what the books must say, from what was generated and not from how we read it.

Prices = dict[tuple[str, str], int]


class Said(msgspec.Struct, frozen=True):
    session: str
    at: int
    prices: Prices | None
    chat: tuple[str, ...] | str | None
    caller: Caller
    n: int = 0
    recovered: bool = False

    def record(self) -> Record:
        body: dict[str, Any] = {"n": self.n, "duration": 5.5}
        if self.prices is not None:
            body["cost_breakdown"] = [
                {"type": type_, "provider": provider, "credit": f"{micros // 10**6}.{micros % 10**6:06d}"}
                for (type_, provider), micros in self.prices.items()
            ]
        if isinstance(self.chat, str):
            body["chat"] = self.chat
        elif self.chat is not None:
            body["chat"] = [{"role": "user", "content": text} for text in self.chat]
            body["function_calls"] = [{"name": text} for text in self.chat]
        return ended(self.session, self.at, body, caller=self.caller, recovered=self.recovered)


def in_order(said: Sequence[Said]) -> list[Said]:
    """What was recovered before all that webhooks brought; by the earliest receipt of each, then by the event's id."""
    earliest: dict[str, tuple[int, Said]] = {}
    for it in said:
        id_ = decode_envelope(it.record().value or b"").event_id
        if id_ not in earliest or it.at < earliest[id_][0]:
            earliest[id_] = it.at, it
    ordered = sorted(earliest.items(), key=lambda item: (not item[1][1].recovered, item[1][0], item[0]))
    return [it for _, (_, it) in ordered]


def expected_prices(said: Sequence[Said]) -> dict[str, Prices]:
    prices: dict[str, Prices] = {}
    for it in in_order(said):
        if it.prices is not None:
            prices[it.session] = {key: micros for key, micros in it.prices.items() if micros}
    return {session: known for session, known in prices.items() if known}


def expected_turns(said: Sequence[Said]) -> dict[str, list[str]]:
    turns: dict[str, list[str]] = {it.session: [] for it in said}
    for it in in_order(said):
        if isinstance(it.chat, tuple):
            turns[it.session] = list(it.chat)
    return turns


def sums(entries: Iterator[tuple[str, str, str, int]]) -> dict[str, Prices]:
    found: dict[str, Prices] = {}
    for session, type_, provider, micros in entries:
        prices = found.setdefault(session, {})
        prices[type_, provider] = prices.get((type_, provider), 0) + micros
    plain = {session: {key: micros for key, micros in prices.items() if micros} for session, prices in found.items()}
    return {session: prices for session, prices in plain.items() if prices}


PRICES = st.dictionaries(
    st.tuples(st.sampled_from(["stt", "tts"]), st.sampled_from(["a", "b"])), st.sampled_from([0, 1, 250_000, 7_000_001])
)
CHATS = st.none() | st.just("[{broken") | st.lists(st.sampled_from(["yes", "no"]), max_size=2).map(tuple)
SAID = st.builds(
    Said,
    session=st.sampled_from(["one", "two"]),
    at=st.integers(0, 6),
    prices=st.none() | PRICES,
    chat=CHATS,
    caller=st.just(CALLER),
    n=st.integers(0, 1),
    recovered=st.booleans(),
)


@st.composite
def deliveries(draw: Callable[[Any], Any]) -> tuple[list[Said], list[list[Said]]]:
    """Deliveries, some of one body at several times; and the same in another order, some twice, in batches."""
    said = draw(st.lists(SAID, min_size=1, max_size=6))
    again = draw(st.lists(st.tuples(st.sampled_from(said), st.integers(0, 6)), max_size=2))
    said = said + [msgspec.structs.replace(it, at=at) for it, at in again]
    shuffled = draw(st.permutations(said + draw(st.lists(st.sampled_from(said), max_size=3))))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(shuffled) - 1)), max_size=3)) | {0, len(shuffled)})
    return said, [shuffled[start:end] for start, end in itertools.pairwise(cuts)]


def check_books(engine: Engine, said: Sequence[Said]) -> None:
    with engine.connect() as tx:
        entry = billing_entries.c
        rows = tx.execute(select(entry.session_id, entry.type, entry.provider, entry.amount_micros))
        assert sums(iter(rows)) == expected_prices(said)
        turn = transcript_turns.c
        turns: dict[str, list[str]] = {session: [] for session in tx.scalars(select(transcripts.c.session_id))}
        for session, text in tx.execute(select(turn.session_id, turn.text).order_by(turn.session_id, turn.position)):
            turns[session].append(text)
        assert turns == expected_turns(said)
    events = told(engine, "billing", Charged)
    added = [(it.session_id, c.type, c.provider, c.amount_micros) for it in events for c in it.entries]
    assert sums(iter(added)) == expected_prices(said)
    totals = {it.session_id: it.total_micros for it in events}
    assert {session: total for session, total in totals.items() if total} == {
        session: sum(prices.values()) for session, prices in expected_prices(said).items()
    }
    ready = {it.session_id: it.turns for it in told(engine, "transcripts", TranscriptReady)}
    assert ready == {session: len(texts) for session, texts in expected_turns(said).items()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries())
def test_any_order_duplication_and_batches_give_the_same_books(
    engine: Engine, delivered: tuple[list[Said], list[list[Said]]]
) -> None:
    said, batches = delivered
    forget(engine)
    consume(engine, *([it.record()] for it in said))
    check_books(engine, said)
    first = books(engine)
    forget(engine)
    consume(engine, *([it.record() for it in batch] for batch in batches))
    check_books(engine, said)
    assert books(engine) == first


def test_a_body_that_came_from_two_callers_counts_as_it_came_first(engine: Engine) -> None:
    """The identity may change between two deliveries, when our user configures another own number."""
    now, then = (ended("s", at, PROVIDERS_EXAMPLE, caller=Caller(id_, "session")) for at, id_ in ((9, "b"), (1, "a")))
    consume(engine, [then], [now])
    first = books(engine)
    forget(engine)
    consume(engine, [now], [then])
    assert books(engine) == first
    assert {row[7] for row in first["billing_entries"]} == {"a"}


PROVIDERS_EXAMPLE = {
    "ts": 1_700_000_000,
    "duration": 31.25,
    "call_status": "user-ended",
    "chat": '[{"role": "user", "content": "Is it open?"}, {"role": "assistant", "content": "Until nine."}]',
    "function_calls": "[{'name': 'hours', 'params': {'day': 'monday'}}]",
    "cost_breakdown": [
        {"type": "stt", "provider": "millis", "credit": 0.0043},
        {"type": "tts", "provider": "elevenlabs", "credit": 0.03},
    ],
}


def test_a_call_is_one_bill_and_one_transcript(engine: Engine) -> None:
    record = ended("s", 7, PROVIDERS_EXAMPLE)
    consume(engine, [record, record], [record])
    id_, at = decode_envelope(record.value or b"").event_id, (APPENDED_MS - 1_000_000) * 1000 + 7
    started = 1_700_000_000_000_000
    numbers = [1022026391, -1567721676, -1536130140, -1893063293, 2065529981]
    assert books(engine) == {
        "billing_entries": [
            ("s", id_, "stt", "millis", "charge", 4_300, "-agent", "c0ffee", at),
            ("s", id_, "tts", "elevenlabs", "charge", 30_000, "-agent", "c0ffee", at),
        ],
        "transcripts": [
            (
                *("s", id_, at, "-agent", "c0ffee", *("user-ended",) * 2, started, 31_250, "ok", None, 2, "ok", 1),
                '["Is it open?","Until nine."]',
                '[["user","user"],["agent","assistant"]]',
                '[{"name":"hours","params":"{\\"day\\":\\"monday\\"}","result":null,"turns_before":null}]',
                {"sqlite": "is it open until nine", "postgresql": numbers}[engine.dialect.name],
            ),
        ],
        "transcript_turns": [("s", 0, "user", "user", "Is it open?"), ("s", 1, "agent", "assistant", "Until nine.")],
        "transcript_function_calls": [("s", 0, "hours", '{"day":"monday"}', None, None)],
    }
    (charged,) = told(engine, "billing", Charged)
    assert (charged.source_event_id, charged.kind, charged.total_micros, charged.caller) == (
        id_,
        "charge",
        34_300,
        CALLER,
    )
    (ready,) = told(engine, "transcripts", TranscriptReady)
    assert (ready.source_event_id, ready.state, ready.turns, ready.function_calls) == (id_, "ok", 2, 1)


def cost(credit: Any) -> dict[str, Any]:
    return {"cost_breakdown": [{"type": "stt", "provider": "millis", "credit": credit}]}


def test_an_older_body_that_arrives_late_changes_the_entries_and_not_the_sum(engine: Engine) -> None:
    older, newer = ended("s", 1, cost(2)), ended("s", 2, cost(5))
    consume(engine, [newer], [older])
    posted = [(row[4], row[5]) for row in books(engine)["billing_entries"]]
    assert sorted(posted) == [("adjustment", 3_000_000), ("charge", 2_000_000)]
    assert [(it.kind, it.total_micros) for it in told(engine, "billing", Charged)] == [("charge", 5_000_000)]


def test_a_repetition_changes_nothing_and_a_return_is_a_new_statement(engine: Engine) -> None:
    one, two, three = (ended("s", at, {**cost(credit), "n": at}) for at, credit in ((1, 2), (2, 5), (3, 2)))
    consume(engine, [one], [two], [one], [three], [two])
    events = told(engine, "billing", Charged)
    assert [it.entries[0].amount_micros for it in events] == [2_000_000, 3_000_000, -3_000_000]


@pytest.mark.parametrize("credit", [b"1e308", b"9" * 1000])
def test_a_cost_that_is_no_money_leaves_nothing_of_its_batch(engine: Engine, credit: bytes) -> None:
    poison = ended("s", 1, b'{"cost_breakdown": [{"type": "stt", "credit": %s}]}' % credit)
    good = ended("t", 1, cost(1))
    with pytest.raises(UnreadableEvent):
        consume(engine, [good, poison], by=[Billing()])
    assert books(engine)["billing_entries"] == []
    consume(engine, [good], by=[Billing()])
    assert [row[5] for row in books(engine)["billing_entries"]] == [1_000_000]


def test_what_neither_database_can_hold_is_stored_alike(engine: Engine) -> None:
    body = b"{\"chat\": \"[{'role': 'user', 'content': 'a\\\\x00\\\\ud800b'}]\", \"call_status\": \"\\u0000\","
    body += b'"cost_breakdown": [{"type": "s\\u0000", "provider": null, "credit": 1}]}'
    consume(engine, [ended("s\0", 1, body, agent_id="a\0" * 5_000)])
    rows = books(engine)
    assert rows["transcript_turns"] == [("s\ufffd", 0, "user", "user", "a\ufffd\ufffdb")]
    assert rows["transcripts"][0][5:7] == ("other", "\ufffd")
    assert rows["billing_entries"][0][2:6] == ("s\ufffd", "unknown", "charge", 1_000_000)


def test_two_processes_that_meet_at_a_session_post_what_one_would(engine: Engine) -> None:
    records = [ended(f"s{n % 3}", n, {**cost(n % 7), "chat": [f"{n}"], "n": n}) for n in range(60)]
    consume(engine, records)
    alone = books(engine)
    forget(engine)
    failures: list[BaseException] = []

    def work(mine: Sequence[Record]) -> None:
        try:
            consume(engine, *([record] for record in mine))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(records[part::2],)) for part in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert books(engine) == alone
