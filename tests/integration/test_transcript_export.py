"""`ringlog transcripts export`, from both databases."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from cli.transcripts import app
from consumers.conversations import PAGE, Choice, Conversation, count, page, snapshots
from consumers.database import migrate, open_engine
from consumers.transcripts import Transcripts
from runtime.settings import Settings, load_settings
from tests.ended_calls import ended
from tests.logging_restored import logs_restored

ROOT = Path(__file__).parents[2]

DAY_S = 24 * 60 * 60
FIRST_OF_NOVEMBER_S = 1_793_491_200  # 2026-11-01T00:00:00Z, after all of `ended`'s times of receipt

MANY = 2 * PAGE + 7


def call(number: int) -> dict[str, object]:
    """Three a day, from the first of November on; every fifth has a call that the chat tells of."""
    return {
        "ts": FIRST_OF_NOVEMBER_S + number * DAY_S // 3,
        "chat": [
            {"role": "user", "content": f"=SUM({number})"},
            {"role": "assistant", "content": "", "tool_calls": [{"name": "add"}] * (number % 5 == 0)},
        ],
    }


@pytest.fixture
def books(database_url: str, tmp_path: Path) -> Settings:
    settings = load_settings(database_url=database_url, data_dir=tmp_path / "data")
    migrate(settings)
    agents = ("-one", "two")
    calls = [ended(f"-s{number:03}", number, call(number), agent_id=agents[number % 2]) for number in range(MANY)]
    # It doesn't say when it began, and counts by when its end was received.
    calls.append(ended("no time", 0, {"chat": "[{broken"}, agent_id=None))
    engine = open_engine(settings)
    with engine.begin() as tx:
        Transcripts().handle(tx, calls)
    engine.dispose()
    return settings


def environment(settings: Settings) -> dict[str, str]:
    return {"RINGLOG_DATABASE_URL": settings.database_url or "", "RINGLOG_DATA_DIR": str(settings.data_dir)}


def export(settings: Settings, *arguments: str) -> Result:
    with logs_restored():
        return CliRunner().invoke(app, ["export", *arguments], env=environment(settings), catch_exceptions=False)


def exported(result: Result) -> list[Conversation]:
    assert result.exit_code == 0
    return [msgspec.json.decode(line, type=Conversation) for line in result.stdout_bytes.splitlines()]


def sessions(settings: Settings, *arguments: str) -> list[str]:
    return sorted(it.session_id for it in exported(export(settings, "--format", "jsonl", *arguments)))


def test_every_transcript_is_exported_once_whatever_the_pages(books: Settings) -> None:
    assert sessions(books) == [*(f"-s{number:03}" for number in range(MANY)), "no time"]


def test_a_line_is_what_show_prints(books: Settings) -> None:
    by_session = {it.session_id: it for it in exported(export(books, "--format", "jsonl"))}
    for session in ("-s000", "-s051", "no time"):
        with logs_restored():
            shown = CliRunner().invoke(app, ["show", "--json", session], env=environment(books))
        assert by_session[session] == msgspec.json.decode(shown.stdout, type=Conversation)


def test_days_are_whole_and_in_utc(books: Settings) -> None:
    third_to_fourth = [f"-s{number:03}" for number in range(6, 12)]
    assert sessions(books, "--since", "2026-11-03", "--until", "2026-11-04") == third_to_fourth
    assert sessions(books, "--until", "2026-11-01") == ["-s000", "-s001", "-s002", "no time"]
    assert sessions(books, "--since", "2026-12-06") == [f"-s{number:03}" for number in range(105, MANY)]
    assert sessions(books, "--since", "9999-12-31", "--until", "9999-12-31") == []


def test_times_are_said_as_everywhere(books: Settings) -> None:
    between = "--since", "2026-11-03T00:00", "--until", "2026-11-03T16:00Z"
    assert sessions(books, *between) == ["-s006", "-s007"], "a time, unlike a day, ends before itself"
    assert sessions(books, "--since", "2026-11-03T09:00+01:00", "--until", "2026-11-03") == ["-s007", "-s008"]
    assert sessions(books, "--until", "999999d") == []
    assert len(sessions(books, "--since", "999999d")) == MANY + 1


def test_an_agent_whose_id_begins_with_a_dash(books: Settings) -> None:
    assert sessions(books, "--agent", "-one", "--until", "2026-11-01") == ["-s000", "-s002"]
    assert sessions(books, "--agent=two", "--until", "2026-11-01") == ["-s001"]


def test_a_transcript_that_is_written_anew_meanwhile_is_there_once(books: Settings) -> None:
    engine = open_engine(books)
    seen: list[str] = []
    while True:
        with snapshots(engine).connect() as tx:
            found = page(tx, Choice(), seen[-1] if seen else None, 10)
        seen += [it.session_id for it in found]
        if len(found) < 10:
            break
        with engine.begin() as tx:
            Transcripts().handle(tx, [ended(seen[-1], 10**6 + len(seen), {**call(1), "n": len(seen)})])
    assert len(seen) == len(set(seen)) == MANY + 1
    engine.dispose()


def test_a_page_is_of_one_moment(books: Settings) -> None:
    """The head, the turns and the calls of a transcript are read one after the other, and belong together."""
    engine = open_engine(books)
    with snapshots(engine).connect() as tx:
        before = count(tx, Choice())
        _end_another_call(engine)
        assert count(tx, Choice()) == before
    engine.dispose()


def _end_another_call(engine: Engine) -> None:
    with engine.begin() as tx:
        Transcripts().handle(tx, [ended("another", 1, {})])


def test_csv_to_standard_output_is_safe_to_open(books: Settings) -> None:
    result = export(books, "--format", "csv", "--until", "2026-11-01", "--agent", "-one")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline="")))
    assert [(it["session_id"], it["kind"], it["text"] or it["function"]) for it in rows] == [
        ("'-s000", "turn", "'=SUM(0)"),
        ("'-s000", "turn", ""),
        ("'-s000", "call", "add"),
        ("'-s002", "turn", "'=SUM(2)"),
        ("'-s002", "turn", ""),
    ]


@pytest.mark.parametrize("name", ["markdown", "jsonl", "csv"])
def test_a_file_is_what_standard_output_would_be(books: Settings, tmp_path: Path, name: str) -> None:
    file = tmp_path / "out"
    result = export(books, "--format", name, "--output", str(file))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{MANY + 1} transcripts written to {file}.\n"
    assert file.read_bytes() == export(books, "--format", name).stdout_bytes
    assert [it.name for it in tmp_path.iterdir() if it.name.endswith(".partial")] == []


def test_markdown_goes_into_a_folder_too(books: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    result = export(books, "--format", "markdown", "--output", f"{folder}/", "--until", "2026-11-01")
    assert (result.exit_code, result.stderr) == (0, f"4 transcripts written to {folder}/.\n")
    names = sorted(it.name for it in folder.iterdir())
    assert names[:3] == ["_-s000.md", "_-s001.md", "_-s002.md"]
    assert names[3].startswith("no_time_")  # a space is no part of a name
    assert (folder / "_-s000.md").read_text().startswith("# `-s000`\n")
    again = export(books, "--format", "markdown", "--output", str(folder), "--until", "2026-11-01")
    assert again.exit_code == 0
    assert sorted(it.name for it in folder.iterdir()) == names


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["jsonl", "--since", "2026-11-02", "--until", "2026-11-01"],
            "--until 2026-11-01 is before --since 2026-11-02",
        ),
        (["jsonl", "--since", "soon"], "--since is wrong: 'soon' is no time; write 30m, 2h, 3d, or 2026-01-31"),
        (["jsonl", "--until", "2026-13-01"], "--until is wrong: '2026-13-01' is no time"),
        (["csv", "--output", "{folder}"], "only markdown is a file a call; name a file, such as"),
        (
            ["jsonl", "--output", "nowhere/"],
            "only markdown is a file a call; name a file, such as nowhere/transcripts.jsonl",
        ),
        (["csv", "--output", "/dev/null"], "--output /dev/null is no file and no folder"),
    ],
)
def test_what_can_not_be_meant_is_refused(books: Settings, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = export(books, "--format", *(it.format(folder=tmp_path) for it in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_can_not_be_written_is_one_sentence(books: Settings, tmp_path: Path) -> None:
    file = tmp_path / "missing" / "out.csv"
    result = export(books, "--format", "csv", "--output", str(file))
    assert (result.exit_code, result.stderr) == (1, f"{file} can't be written: No such file or directory.\n")


def test_a_reader_that_has_seen_enough_ends_it_without_a_word(books: Settings) -> None:
    command = [sys.executable, "-m", "cli.main", "transcripts", "export", "--format", "csv"]
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        command, env={**os.environ, **environment(books)}, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, b"")
