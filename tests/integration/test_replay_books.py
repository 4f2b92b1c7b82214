"""`ringlog replay` of the other books: transcripts stay searchable, no sound is fetched twice, the log of calls."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import delete, update

from consumers import transcripts as transcripts_consumer
from consumers.call_log import CallLog
from consumers.calls import EndedCall
from consumers.recordings import Recordings
from consumers.recordings import consumer as recordings_consumer
from consumers.replay.replay import Report, Wanted, replay
from consumers.search import find
from consumers.tables import call_log, recordings, transcript_function_calls, transcript_turns, transcripts
from consumers.transcripts import Account, Transcripts
from runtime.clock import system_clock
from runtime.settings import Settings
from schemas.chat import Turn
from schemas.derived import TranscriptReady
from schemas.event import Record
from schemas.topics import TRANSCRIPTS_READY
from tests.ended_calls import ended, prefetched
from tests.integration.replay_scene import Scene, open_scene, spread
from tests.search_in_step import assert_search_in_step
from tests.tallying import read
from tests.unit.consumers.recordings.books import Books
from tests.unit.consumers.recordings.sound_server import WAV, serving

TRANSCRIPT = (transcripts, transcript_turns, transcript_function_calls)


@pytest.fixture
def scene(settings: Settings, database_url: str, tmp_path: Path) -> Iterator[Scene]:
    with open_scene(settings, database_url, tmp_path) as scene:
        yield scene


def talk(session: str, at: int, *said: str) -> Record:
    chat = [{"role": "user" if n % 2 else "assistant", "content": it} for n, it in enumerate(said)]
    functions = [{"name": "lookup", "params": {"order": at}, "result": "sent"}]
    return ended(session, at, {"chat": chat, "function_calls": functions, "call_status": "user-ended"})


TALKS = spread(
    [
        talk("one", 1, "Hello, how can I help?", "Where is my parcel?"),
        talk("two", 2, "Hello", "A refund, please", "Certainly"),
        talk("two", 9, "Hello", "A refund, please", "Certainly", "Goodbye"),
        talk("three", 3, "Good evening"),
    ]
)


def mumbling(call: EndedCall) -> Account:
    """A bug: of each talk but the shortest the last turn is lost, and the others are mumbled."""
    account = account_of(call)
    turns = tuple(Turn(it.role, f"mumble {it.text[:3]}") for it in account.chat.turns[:-1])
    return account if len(account.chat.turns) == 1 else replace(account, chat=replace(account.chat, turns=turns))


account_of = transcripts_consumer.account_of


def sessions_that_said(scene: Scene, words: str) -> list[str]:
    with scene.engine.connect() as tx:
        return [found.session_id for found in find(tx, words, 10)]


def test_a_transcript_that_was_swapped_in_is_found_by_its_words(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.publish(TALKS)
    with monkeypatch.context() as patched:
        patched.setattr(transcripts_consumer, "account_of", mumbling)
        scene.consume(Transcripts(), 4)
    before = told(scene)
    assert sessions_that_said(scene, "mumble") and not sessions_that_said(scene, "parcel")
    with scene.consuming(Transcripts()):
        found = scene.replay("transcripts", code=4)
        assert (found["differing"], found["changes"][1:]) == (
            2,
            [{"book": "transcripts", "added": 0, "removed": 0, "changed": 2}],
        )
        assert scene.replay("transcripts", "--swap")["swapped"]["told"] == 2
        scene.publish(spread([talk("four", 20, "My parcel, too")]))
        scene.consumed("transcripts", 5)
    assert sorted(sessions_that_said(scene, "parcel")) == ["four", "one"]
    assert sessions_that_said(scene, "goodbye") == ["two"] and not sessions_that_said(scene, "mumble")
    assert_search_in_step(scene.engine)
    news = {id_: it for id_, it in told(scene).items() if id_ not in before}
    assert sorted((it.session_id, it.turns) for it in news.values()) == [("four", 1), ("one", 2), ("two", 4)]


def told(scene: Scene) -> dict[str, TranscriptReady]:
    """What lies in `transcripts.ready`, by id."""
    found = asyncio.run(read(scene.settings, TRANSCRIPTS_READY))
    events = [msgspec.json.decode(it.value, type=TranscriptReady) for it in found]
    assert len({it.event_id for it in events}) == len(events)
    return {it.event_id: it for it in events}


def test_transcripts_that_somebody_has_removed_come_back_whole(scene: Scene) -> None:
    scene.publish(TALKS)
    scene.consume(Transcripts(), 4)
    right = scene.rows(*TRANSCRIPT)
    scene.change(
        delete(transcripts).where(transcripts.c.session_id == "two"),
        update(transcripts).where(transcripts.c.session_id == "one").values(called="[]"),
    )
    assert scene.replay("transcripts", "--swap", "--quiet")["swapped"]["sessions"] == 2
    assert scene.rows(*TRANSCRIPT) == right
    assert sessions_that_said(scene, "goodbye") == ["two"]


async def of_recordings(scene: Scene) -> Report:
    wanted = Wanted(consumer="recordings", swap=True)
    return await replay(scene.settings, scene.engine, wanted, asyncio.Event(), lambda *_: None)


async def test_no_sound_is_fetched_twice_and_no_work_is_disturbed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    books = Books(scene.settings, scene.engine, tmp_path / "data" / "recordings")
    async with serving() as server:
        server.paths |= {f"/{name}": WAV for name in ("stored", "gone")} | {"/failing": 503, "/moved": 503}
        named = [("stored", "stored"), ("gone", "gone"), ("failing", "failing"), ("leased", "leased")]
        events = [recorded(session, n, server.url(f"/{path}")) for n, (session, path) in enumerate(named)]
        await asyncio.to_thread(scene.publish, spread(events))
        with monkeypatch.context() as patched:
            patched.setattr(recordings_consumer, "_mention_in", nobodys)
            await asyncio.to_thread(scene.consume, Recordings(), 4)
        until = system_clock() + 50_000_000
        leased = {"leased_until": until, "attempts": 1, "next_attempt_at": 5}
        scene.change(update(recordings).where(recordings.c.session_id == "leased").values(leased))
        async with books.downloading(recording_private_hosts=[server.address]):
            for session in ("stored", "gone"):
                await books.until(session, status="stored")
            await books.until("failing", attempts=1)
        scene.change(delete(recordings).where(recordings.c.session_id == "gone"))
        before = {row["session_id"]: row for row in books.rows()}

        report = await of_recordings(scene)
        assert report.swapped is not None and (report.swapped.sessions, report.swapped.told) == (4, 0)
        after = {row["session_id"]: row for row in books.rows()}
        for session in ("stored", "failing", "leased"):  # what the log says is put right, and nothing else
            right = {"agent_id": "-agent", "object_stem": after[session]["object_stem"]}
            assert after[session] == before[session] | right
            assert before[session]["agent_id"] == "nobody"
        assert (after["gone"]["status"], after["gone"]["object"]) == ("pending", None)
        async with books.downloading(recording_private_hosts=[server.address]):
            row = await books.until("gone", status="stored")
        assert row["bytes"] == len(WAV)
        assert [server.asked().count(f"/{name}") for name in ("stored", "gone", "leased")] == [1, 1, 0]
        assert (await of_recordings(scene)).differing == 0


def recorded(session: str, at: int, url: str) -> Record:
    return ended(session, at, {"ts": 1_780_000_000, "recording": {"recording_url": url}})


def nobodys(call: EndedCall) -> recordings_consumer.Mention | None:
    """A bug: of most calls the agent is another."""
    mention = mention_in(call)
    return mention if mention is None or call.session_id == "gone" else replace(mention, agent_id="nobody")


mention_in = recordings_consumer._mention_in


def test_the_log_of_calls_is_built_from_both_of_its_topics(scene: Scene) -> None:
    events = [prefetched("one", 1), ended("one", 5, {"duration": 3}), prefetched("two", 2), ended("three", 3, {})]
    scene.publish(spread(events))
    scene.consume(CallLog(), 4)
    right = scene.rows(call_log)
    scene.change(
        update(call_log).where(call_log.c.session_id == "one").values(duration_ms=1),
        delete(call_log).where(call_log.c.session_id == "two"),
    )
    found = scene.replay("calls", "--swap")
    assert found["changes"] == [{"book": "call_log", "added": 1, "removed": 0, "changed": 1}]
    assert (found["events"], found["swapped"]["told"]) == (4, 0)
    assert scene.rows(call_log) == right
    part = scene.replay("calls", "--from=calls.prefetch/0:0,calls.prefetch/1:0", code=0)
    assert part["window"]["starts"] == {f"{scene.settings.topic_prefix}calls.prefetch/{n}": 0 for n in range(2)}
