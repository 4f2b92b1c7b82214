"""`ringlog recordings` as a user runs it: what there is, another chance, and whether it is still whole."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import LocalStore, ObjectStore, from_url
from sqlalchemy import update
from typer.testing import CliRunner, Result

from cli.recordings import app
from consumers.database import migrate, open_engine
from consumers.recordings.backoff import MAX_ATTEMPTS
from consumers.tables import recordings
from runtime.settings import load_settings
from tests.logging_restored import logs_restored
from tests.unit.consumers.recordings.books import Books
from tests.unit.consumers.recordings.sound_server import WAV, serving
from tests.unit.consumers.recordings.test_downloader import called

DASHED = "-Oh1Na8Bw82RSfz"  # with an `h` in it: no option is to be found inside of an id
LARGE = WAV * 400  # 7 MB


class Scene(Books):
    """Recordings of sessions `s1`, `s2`, ..., and the command. Synchronous: the command has a loop of its own."""

    sounds: dict[str, Any]

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> Result:
        named = {
            "DATABASE_URL": self.settings.database,
            "DATA_DIR": str(self.settings.data_dir),
            "RECORDINGS_URL": self.settings.recordings,
            **environment,
        }
        with logs_restored():
            env = {f"RINGLOG_{name}": value for name, value in named.items()}
            result = CliRunner().invoke(app, arguments, env={**env, "COLUMNS": "200"})
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def download(self, **statuses: str) -> None:
        """Until the sessions have these statuses, from a server that has `sounds`."""

        async def until() -> None:
            async with serving() as server:
                server.paths |= {f"/{name}": sound for name, sound in self.sounds.items()}
                urls = {f"https://sound.example/{name}": server.url(f"/{name}") for name in self.sounds}
                for said, url in urls.items():
                    self.write(update(recordings).where(recordings.c.url == said).values(url=url))
                async with self.downloading(recording_private_hosts=[server.address]):
                    for session, status in statuses.items():
                        await self.until(session, status=status)
            for said, url in urls.items():
                self.write(update(recordings).where(recordings.c.url == url).values(url=said))

        asyncio.run(until())

    def store(self) -> ObjectStore:
        url = self.settings.recordings
        return LocalStore.from_url(url) if url.startswith("file:") else from_url(url)


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def ringlog(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Scene]:
    settings = load_settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        recordings_url=request.getfixturevalue("s3") if request.param == "s3" else None,
    )
    migrate(settings)
    engine = open_engine(settings)
    scene = Scene(settings, engine, tmp_path / "data" / "recordings")
    scene.sounds = {"1": WAV, "2": LARGE, "3": 404}
    scene.hear(*(called(f"s{n}", f"https://sound.example/{n}", n) for n in (1, 2, 3)))
    yield scene
    engine.dispose()


@pytest.fixture
def done(ringlog: Scene) -> Scene:
    """Two are stored, one has failed."""
    ringlog.write(update(recordings).where(recordings.c.session_id == "s3").values(attempts=MAX_ATTEMPTS - 1))
    ringlog.download(s1="stored", s2="stored", s3="failed")
    return ringlog


def test_the_list_says_where_each_lies_or_why_it_does_not(done: Scene) -> None:
    done.hear(called(DASHED, "https://sound.example/4?signature=hush", 4))
    everything = done("list")
    lines = everything.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [DASHED, "s3", "s2", "s1"]
    assert "the server answered 404 (sound.example)" in lines[2]
    assert "_-agent/2025/12/31/s1.wav" in lines[4] and "16.4 kB" in lines[4]
    assert "1 failed, 1 pending, 2 stored (6.6 MB)" in everything.stderr
    assert "hush" not in everything.output
    assert "hush" not in done("list", "--json").stdout
    (failed,) = done.json("list", "--status", "failed")
    assert (failed["session_id"], failed["attempts"], failed["object"]) == ("s3", MAX_ATTEMPTS, None)
    assert [it["session_id"] for it in done.json("list", "--limit", "2")] == [DASHED, "s3"]
    assert "2 shown" in done("list", "--limit", "2").stderr
    assert done.json("list", "--since", "2100-01-01") == []
    assert "There are no such recordings." in done("list", "--status", "refused").stderr
    assert "answered" not in done("list", "--status", "stored").stdout


def test_what_has_failed_gets_another_chance_at_once(done: Scene) -> None:
    done.sounds["3"] = WAV
    assert done("retry", "--failed").stdout == "1 due now.\n"
    row = done.row("s3")
    assert (row["status"], row["attempts"], row["error"]) == ("pending", 0, None)
    done.download(s3="stored")
    assert done("retry", "--failed").stdout == "0 due now.\n"
    assert done("retry", "--failed", "--refused", "--since", "1h").stdout == "0 due now.\n"


def test_named_sessions_get_one_whatever_their_ids(done: Scene) -> None:
    done.sounds["3"] = WAV
    done.hear(called(DASHED, "https://sound.example/4", 4))
    later = {"attempts": 9, "next_attempt_at": 2**60, "error": "the server answered 404"}
    done.write(update(recordings).where(recordings.c.session_id == DASHED).values(later))
    assert done.json("retry", DASHED, "s3", "s3") == {"retried": 2}
    done.sounds["4"] = WAV
    done.download(**{DASHED: "stored", "s3": "stored"})


def test_what_was_refused_by_a_setting_gets_one_too(ringlog: Scene) -> None:
    refused = {"status": "refused", "attempts": 1, "error": "the host is not in RINGLOG_RECORDING_HOSTS"}
    ringlog.write(update(recordings).where(recordings.c.session_id == "s1").values(refused))
    assert ringlog.json("retry", "--failed") == {"retried": 0}
    assert ringlog.json("retry", "--refused") == {"retried": 1}
    ringlog.download(s1="stored")


def test_what_is_stored_is_fetched_again_only_when_it_is_gone(done: Scene) -> None:
    before = done.row("s1")
    assert "is stored" in done("retry", "s3", "s1", code=1).stderr
    assert "is there: _-agent/2025/12/31/s1.wav" in done("retry", "s1", "--lost", code=1).stderr
    assert done.row("s1") == before
    assert done.row("s3")["status"] == "failed", "all or none"
    obstore.delete(done.store(), before["object"])
    assert done.json("retry", "s1", "--lost") == {"retried": 1}
    done.download(s1="stored")
    assert done.row("s1") == before
    assert done.json("verify")["wrong"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["retry"], 2, "Name sessions"),
        (["retry", "s1", "--failed"], 2, "Name sessions"),
        (["retry", "s1", "--since", "1h"], 2, "Name sessions"),
        (["retry", "--failed", "--lost"], 2, "Name sessions"),
        (["retry", "s3", "nobody", "-nobody"], 1, "There is no recording of nobody, -nobody."),
        (["list", "--since", "tomorrow"], 2, "--since is wrong"),
        (["list", "--status", "odd"], 2, "odd"),
    ],
)
def test_what_is_asked_wrongly_is_said_so(ringlog: Scene, arguments: list[str], code: int, sentence: str) -> None:
    assert sentence in ringlog(*arguments, code=code).stderr


def test_what_is_still_whole_is_verified(done: Scene) -> None:
    assert done("verify").stdout == "2 recordings, 6.6 MB read: all as they were stored.\n"
    assert done.json("verify") == {
        "checked": 2,
        "bytes": len(WAV) + len(LARGE),
        "wrong": [],
        "complete": True,
        "away": None,
    }
    assert done.json("verify", "--since", "2100-01-01")["checked"] == 0


def test_what_is_missing_or_differs_is_found_and_the_exit_code_says_so(done: Scene) -> None:
    store = done.store()
    obstore.delete(store, done.row("s1")["object"])
    obstore.put(store, done.row("s2")["object"], LARGE[:-1] + b"\0")
    wrong = done.json("verify", code=1)["wrong"]
    assert [(it["session_id"], it["state"]) for it in wrong] == [("s1", "missing"), ("s2", "differs")]
    assert "its sha256 is" in wrong[1]["reason"]
    obstore.put(store, done.row("s2")["object"], LARGE[:-1])
    said = done("verify", code=1)
    assert "s1 missing: _-agent/2025/12/31/s1.wav: there is no such object." in said.stderr
    assert f"it has {len(LARGE) - 1} bytes, and {len(LARGE)} were stored" in said.stderr
    assert said.stdout.endswith("1 differs, 1 missing.\n")


def test_many_pages_of_rows_are_verified(done: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.recordings.book._PAGE", 1)
    assert done.json("verify")["checked"] == 2


def test_a_storage_that_is_away_is_no_recording_that_is_missing(done: Scene) -> None:
    """There is a file where a folder was; the bucket's server is gone."""
    if done.settings.recordings.startswith("s3:"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            said = done("verify", code=1)
    else:
        agent = done.folder / "_-agent"
        agent.rename(done.folder / "elsewhere")
        agent.write_text("no folder")
        said = done("verify", code=1)
    assert "The storage of the recordings can't be read" in said.stderr
    assert said.stdout == "0 recordings, 0 bytes read: none wrong so far, stopped before the end.\n"


def test_a_storage_that_can_not_be_is_a_wrong_setting(done: Scene) -> None:
    said = done("verify", code=2, RECORDINGS_URL="nonsense://x")
    assert "RINGLOG_RECORDINGS_URL is wrong" in said.stderr
    assert said.stdout == ""


def test_without_a_database_it_says_what_to_do(tmp_path: Path) -> None:
    env = {"RINGLOG_DATA_DIR": str(tmp_path / "nothing")}
    for command in (["list"], ["verify"], ["retry", "--failed"]):
        with logs_restored():
            result = CliRunner().invoke(app, command, env=env)
        assert result.exit_code == 1
        assert "There is no database at" in result.stderr
