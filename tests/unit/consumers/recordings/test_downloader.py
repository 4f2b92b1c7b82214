"""Each recording is fetched once, whole, and only from where it may be, whatever its server does. On both databases."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from aiohttp import web
from sqlalchemy import text, update

from consumers.recordings import download, fetcher
from consumers.recordings.backoff import LONGEST_DELAY_S, MAX_ATTEMPTS, STORAGE_AWAY_DELAY_S
from consumers.recordings.storage import StoredSound
from consumers.recordings.work_table import LEASE_S, WorkTable
from consumers.tables import recordings
from runtime.clock import system_clock
from runtime.logs import configure_logs
from schemas.derived import RecordingStored
from schemas.event import RECORDED, Record
from tests.ended_calls import CALLER, ended
from tests.logging_restored import logs_restored
from tests.unit.consumers.recordings.books import ANYTHING, Books
from tests.unit.consumers.recordings.sound_server import (
    WAV,
    SoundServer,
    html,
    redirect,
    reset,
    serving,
    silent,
    truncated,
)

STARTED_S = 1_767_225_500.5
OBJECT = "_-agent/2025/12/31/s1.wav"


def called(session_id: str, url: str, at: int = 0) -> Record:
    body = {"session_id": session_id, "ts": STARTED_S, "recording": {"recording_url": url}}
    return ended(session_id, at, body)


async def test_a_recording_is_fetched_hashed_stored_and_told_of(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = WAV
    record = called("s1", sounds.url("/1?sig=secret"))
    books.hear(record)
    async with books.downloading():
        row = await books.until("s1", status="stored")
    sha256 = hashlib.sha256(WAV).hexdigest()
    stored = {"object": OBJECT, "bytes": len(WAV), "sha256": sha256, "content_type": "audio/wav"}
    assert {name: row[name] for name in stored} == stored
    assert (row["attempts"], row["next_attempt_at"], row["leased_until"], row["error"]) == (0, 0, 0, None)
    assert books.files() == {OBJECT: WAV}
    (event,) = books.outbox()
    assert (event.topic, event.event_type, event.session_id) == ("recordings.stored", RECORDED, "s1")
    assert msgspec.json.decode(event.value, type=RecordingStored) == RecordingStored(
        event_id=event.event_id,
        session_id="s1",
        agent_id="-agent",
        caller=CALLER,
        source_event_id=record.header("ce_id") or "",
        **stored,  # type: ignore[arg-type]
    )


async def test_nothing_of_ours_goes_to_the_guest(
    books: Books, sounds: SoundServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    sounds.paths |= {"/1": redirect("/2"), "/2": WAV}
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        await books.until("s1", status="stored")
    assert sounds.asked() == ["/1", "/2"]
    for request in sounds.requests:
        assert set(request.headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent", "Connection"}


async def test_a_recording_that_appears_later_is_fetched_then(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = [404, 403, 503, b"", WAV]
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        for attempts, error in enumerate(("answered 404", "answered 403", "answered 503", "was empty"), 1):
            row = await books.until("s1", attempts=attempts, leased_until=0)
            assert row["status"] == "pending"
            assert error in str(row["error"])
            books.pass_time(3600)
        assert (await books.until("s1", status="stored"))["error"] is None
    assert len(sounds.asked()) == 5


@pytest.mark.parametrize(
    ("handler", "error"),
    [(truncated, "broke off"), (reset, "broke off"), (silent, "silent for too long"), (html, "a page, not sound")],
)
async def test_half_a_recording_is_none(
    books: Books, sounds: SoundServer, handler: Any, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "SILENCE_S", 0.5)
    sounds.paths["/1"] = handler
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        row = await books.until("s1", attempts=1, leased_until=0)
        assert row["status"] == "pending"
        assert error in str(row["error"])
        assert books.files() == {}
        sounds.paths["/1"] = WAV
        books.pass_time(60)
        await books.until("s1", status="stored")
    assert books.files() == {OBJECT: WAV}


async def test_after_the_last_attempt_it_has_failed(books: Books, sounds: SoundServer) -> None:
    books.hear(called("s1", sounds.url("/1")))
    books.write(update(recordings).values(attempts=MAX_ATTEMPTS - 1))
    async with books.downloading():
        row = await books.until("s1", status="failed")
        assert (row["attempts"], row["error"]) == (MAX_ATTEMPTS, "the server answered 404")
        books.pass_time(86_400)
        await asyncio.sleep(0.7)
    assert sounds.asked() == ["/1"]


async def test_a_private_address_is_not_asked_even_behind_a_redirect(books: Books, sounds: SoundServer) -> None:
    async with serving() as inside:
        inside.paths["/secret"] = WAV
        sounds.paths["/1"] = redirect(inside.url("/secret"))
        sounds.paths["/2"] = redirect(f"http://localhost:{inside.port}/secret")
        sounds.paths["/3"] = redirect("file:///etc/passwd")
        books.hear(
            called("s0", inside.url("/secret")),
            called("s1", sounds.url("/1")),
            called("s2", sounds.url("/2")),
            called("s3", sounds.url("/3")),
            called("s4", f"http://localhost:{inside.port}/secret"),
        )
        reasons = {
            "s0": "the host 127.0.0.1 has the address 127.0.0.1, which is not public: loopback",
            "s1": "the host 127.0.0.1 has the address 127.0.0.1, which is not public: loopback",
            "s2": "the host localhost is a name without a domain",
            "s3": "only http and https are fetched, not file",
            "s4": "the host localhost is a name without a domain",
        }
        async with books.downloading():
            for session_id, reason in reasons.items():
                row = await books.until(session_id, status="refused")
                assert str(row["error"]).startswith(reason)
        assert inside.requests == []
    assert books.files() == {}


async def test_redirects_end(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = redirect("/1")
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        row = await books.until("s1", attempts=1, leased_until=0)
    assert row["error"] == "more than 5 redirects"
    assert len(sounds.asked()) == 6


async def test_only_the_hosts_of_the_setting(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = WAV
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading(recording_hosts=["sound.example"]):
        row = await books.until("s1", status="refused")
    assert row["error"] == "the host 127.0.0.1 is not in RINGLOG_RECORDING_HOSTS"
    assert sounds.requests == []


async def test_what_is_too_large_is_refused_announced_or_not(books: Books, sounds: SoundServer) -> None:
    async def unannounced(request: Any) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(WAV)
        return response

    sounds.paths |= {"/1": WAV, "/2": unannounced}
    books.hear(called("s1", sounds.url("/1")), called("s2", sounds.url("/2")))
    async with books.downloading(recording_max_bytes=len(WAV) - 1):
        for session_id in ("s1", "s2"):
            row = await books.until(session_id, status="refused")
            assert "larger than RINGLOG_RECORDING_MAX_BYTES" in str(row["error"])
    assert books.files() == {}


async def test_a_lost_database_is_rebuilt_without_asking_the_network(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = WAV
    record = called("s1", sounds.url("/1"))
    books.hear(record)
    async with books.downloading():
        await books.until("s1", status="stored")
    before = books.rows(), books.outbox()
    books.forget()
    books.hear(record)
    async with books.downloading():
        await books.until("s1", status="stored")
    assert (books.rows(), books.outbox()) == before
    assert sounds.asked() == ["/1"]


async def test_sound_under_the_name_by_a_later_revision_is_found(books: Books, sounds: SoundServer) -> None:
    """A revision overtook the first body, gave the object its name, and the database was lost since."""
    first, second = called("s1", sounds.url("/1"), 1), called("s1", sounds.url("/1?again"), 2)
    moved = ended("s1", 2, {"ts": STARTED_S + 86_400, "recording": {"recording_url": sounds.url("/1")}})
    sounds.paths["/1"] = WAV
    books.hear(moved)
    async with books.downloading():
        await books.until("s1", status="stored")
    books.hear(first, second)
    before = books.rows()
    books.forget()
    books.hear(first, moved, second)
    async with books.downloading():
        await books.until("s1", status="stored")
    assert books.rows() == before
    assert list(books.files()) == ["_-agent/2026/01/01/s1.wav"]
    assert sounds.asked() == ["/1"]


def test_what_a_wrong_clock_wrote_does_not_wait_for_it_to_come_true(books: Books) -> None:
    """One row is due, the other leased, further ahead than anything of ours can be."""
    books.hear(called("s1", "https://sound.example/1"), called("s2", "https://sound.example/2"))
    table = WorkTable(books.engine, books.clock)
    books.pass_time(86_400)
    one, _leased = table.claim(2)
    assert table.again(one, "not yet", LONGEST_DELAY_S)
    assert table.claim(2) == []
    books.pass_time(-86_400)
    assert {job.session_id for job in table.claim(2)} == {"s1", "s2"}


def test_without_a_clock_of_its_own_it_goes_by_the_databases(books: Books) -> None:
    """Where there is one: SQLite has none, and only one process."""
    books.hear(called("s1", "https://sound.example/1"))
    (job,) = WorkTable(books.engine).claim(1)
    now = system_clock()
    if books.engine.dialect.name == "postgresql":
        with books.engine.connect() as tx:
            now = int(tx.execute(text("SELECT extract(epoch FROM clock_timestamp()) * 1000000")).scalar_one())
    assert 0 <= now + LEASE_S * 1_000_000 - job.leased_until < 10_000_000


async def test_what_a_killed_download_left_is_removed_by_the_next(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = WAV
    left = books.folder / f"{OBJECT}#1"
    left.parent.mkdir(parents=True)
    left.write_bytes(WAV[:100])
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        await books.until("s1", status="stored")
    assert books.files() == {OBJECT: WAV}


async def test_a_row_that_can_not_be_written_ends_no_others(books: Books, sounds: SoundServer) -> None:
    """Such as one whose caller is no JSON: the event of its storing can't be made."""
    sounds.paths |= {"/1": WAV, "/2": WAV}
    books.hear(called("s1", sounds.url("/1")))
    books.write(update(recordings).values(caller="no JSON"))
    books.hear(called("s2", sounds.url("/2")))
    async with books.downloading():
        await books.until("s2", status="stored")
        await asyncio.sleep(0.5)
    assert books.row("s1")["status"] == "pending"


async def test_the_row_of_a_dead_worker_is_taken_over(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = WAV
    books.hear(called("s1", sounds.url("/1")))
    (dead,) = WorkTable(books.engine, books.clock).claim(4)
    async with books.downloading():
        await asyncio.sleep(0.7)
        assert sounds.requests == []
        books.pass_time(LEASE_S)
        await books.until("s1", status="stored")
    assert WorkTable(books.engine, books.clock).again(dead, "late", 1.0) is False
    assert books.row("s1")["status"] == "stored"


def test_a_worker_whose_lease_has_lapsed_changes_nothing(books: Books) -> None:
    books.hear(called("s1", "https://sound.example/1"))
    table = WorkTable(books.engine, books.clock)
    (late,) = table.claim(1)
    books.pass_time(LEASE_S)
    (holder,) = table.claim(1)
    before = books.row("s1")
    assert before["leased_until"] == holder.leased_until
    assert table.renew(late) is False
    assert table.stored(late, StoredSound("a/b.wav", 1, "ab", "audio/wav")) is False
    assert table.again(late, "late", 1.0) is False
    assert table.refused(late, "late") is False
    table.release(late)
    assert (books.row("s1"), books.outbox()) == (before, [])
    assert table.renew(holder) is True


def test_two_workers_never_have_the_same_row(books: Books) -> None:
    books.hear(*(called(f"s{n}", "https://sound.example/") for n in range(10)))
    one, other = WorkTable(books.engine, books.clock), WorkTable(books.engine, books.clock)
    mine, theirs = one.claim(6), other.claim(6)
    assert len(mine) == 6
    assert len(theirs) == 4
    assert not {job.session_id for job in mine} & {job.session_id for job in theirs}


def test_what_was_said_of_the_old_url_does_not_hold_for_the_new_one(books: Books) -> None:
    books.hear(called("s1", "https://sound.example/old", 1))
    table = WorkTable(books.engine, books.clock)
    (job,) = table.claim(1)
    books.hear(called("s1", "https://sound.example/new", 2))
    assert table.refused(job, "no") is False
    row = books.row("s1")
    assert (row["status"], row["attempts"], row["leased_until"], row["error"]) == ("pending", 0, 0, None)
    assert [again.url for again in table.claim(1)] == ["https://sound.example/new"]


async def test_a_lease_is_kept_for_as_long_as_it_takes(
    books: Books, sounds: SoundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.recordings.downloader.LEASE_S", 0.4)
    monkeypatch.setattr("consumers.recordings.work_table.LEASE_S", 0.4)

    async def slowly(request: Any) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(WAV), len(WAV) // 8):
            await response.write(WAV[start : start + len(WAV) // 8])
            await asyncio.sleep(0.2)
        return response

    sounds.paths["/1"] = slowly
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading(), books.downloading():
        await books.until("s1", status="stored")
    assert sounds.asked() == ["/1"]
    assert books.files() == {OBJECT: WAV}


async def test_storage_that_is_away_costs_no_attempt(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = WAV
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        books.folder.rmdir()
        books.folder.write_text("a file where the folder was")
        row = await books.until("s1", status="pending", attempts=0, leased_until=0, error=ANYTHING)
        assert "Error" in row["error"]
        books.folder.unlink()
        books.folder.mkdir()
        books.pass_time(STORAGE_AWAY_DELAY_S)
        await books.until("s1", status="stored")
    assert books.files() == {OBJECT: WAV}


async def test_a_database_that_is_away_costs_no_attempt_and_no_second_download(
    books: Books, sounds: SoundServer
) -> None:
    sent = asyncio.Event()

    async def when_told(_: web.Request) -> web.Response:
        await sent.wait()
        return web.Response(body=WAV)

    sounds.paths["/1"] = when_told
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        await sounds.asked_for("/1")
        books.write(text("ALTER TABLE recordings RENAME TO elsewhere"))
        sent.set()
        await asyncio.sleep(1.0)
        assert books.files() == {OBJECT: WAV}
        books.write(text("ALTER TABLE elsewhere RENAME TO recordings"))
        row = books.row("s1")
        assert (row["status"], row["attempts"]) == ("pending", 0)
        books.pass_time(LEASE_S)
        await books.until("s1", status="stored")
    assert sounds.asked() == ["/1"]


async def test_stopping_gives_the_rows_back_and_leaves_nothing_half(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = silent
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        await sounds.asked_for("/1")
    row = books.row("s1")
    assert (row["status"], row["attempts"], row["leased_until"]) == ("pending", 0, 0)
    async with asyncio.timeout(5):
        while books.files():  # noqa: ASYNC110 - the storage removes what was begun in a thread of its own
            await asyncio.sleep(0.05)


async def test_many_at_once(books: Books, sounds: SoundServer) -> None:
    sounds.paths |= {f"/{n}": WAV + bytes([n]) for n in range(60)}
    books.hear(*(called(f"s{n}", sounds.url(f"/{n}")) for n in range(60)))
    async with books.downloading(recording_workers=20), books.downloading(recording_workers=20):
        for n in range(60):
            await books.until(f"s{n}", status="stored")
    assert sorted(sounds.asked()) == sorted(f"/{n}" for n in range(60))
    assert sorted(books.files().values()) == sorted(WAV + bytes([n]) for n in range(60))


async def test_no_log_line_holds_a_url(books: Books, sounds: SoundServer) -> None:
    sounds.paths |= {"/secret-1": WAV, "/secret-2": 404, "/secret-3": redirect("http://10.0.0.1/secret")}
    books.hear(*(called(f"s{n}", sounds.url(f"/secret-{n}?secret")) for n in (1, 2, 3)))
    with structlog.testing.capture_logs() as lines:
        async with books.downloading():
            await books.until("s1", status="stored")
            await books.until("s2", attempts=1)
            await books.until("s3", status="refused")
    assert {line["session_id"]: line["host"] for line in lines} == dict.fromkeys(("s1", "s2", "s3"), "127.0.0.1")
    assert all(len(line["event_id"]) == 32 for line in lines)
    assert "secret" not in repr(lines)


async def test_a_fault_of_ours_is_told_without_its_texts(
    books: Books, sounds: SoundServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url = sounds.url("/1?signature=hush")

    def faulty(*_: object) -> bool:
        try:
            raise KeyError(url)
        except KeyError as error:
            raise RuntimeError(url) from error

    monkeypatch.setattr(download, "is_a_page", faulty)
    sounds.paths["/1"] = WAV
    books.hear(called("s1", url))
    with logs_restored():
        configure_logs("recordings", "json")
        async with books.downloading():
            await books.until("s1", attempts=1, error="unexpected: RuntimeError")
        said = capfd.readouterr().err
    assert "an attempt failed unexpectedly" in said and "RuntimeError" in said and "in faulty" in said
    assert "hush" not in said
