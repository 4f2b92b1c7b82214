"""`ringlog facts` as a user runs it: what is written, what it says, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.settings import Settings
from schemas.topics import CALLERS_FACTS
from tests.edge import NUMBER, records_of
from tests.integration.test_serve_command import ROOT


def start(settings: Settings, *arguments: str, **changes: str) -> "subprocess.Popen[str]":
    assert settings.identity_key is not None
    named = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "IDENTITY_KEY": settings.identity_key.get_secret_value(),
        "DATA_DIR": str(settings.data_dir),
        **changes,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "facts", *arguments],
        env={**os.environ, "COLUMNS": "200", **{f"RINGLOG_{name}": value for name, value in named.items()}},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def facts(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    process = start(settings, *arguments)
    out, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    return process.returncode, out, said


def numbered(rows: int) -> list[str]:
    return [f"+1555{row:07}" for row in range(rows)]


async def test_many_wide_rows_are_all_written(settings: Settings, topics: object, tmp_path: Path) -> None:
    columns = [f"c{number}" for number in range(30)]
    lines = [",".join(["number", *columns])]
    lines += [",".join([number, *(["x"] * len(columns))]) for number in numbered(500)]
    file = tmp_path / "customers.csv"
    file.write_text("\n".join([*lines, "nobody,1" + "," * 29, ""]))
    code, out, _ = facts(settings, "import", str(file), "--json")
    assert json.loads(out) == {
        "written": 15_000,
        "callers": 500,
        "refused": [
            {"line": 502, "reason": "This is no phone number: write it as E.164, such as +15551234567."},
        ],
        "stopped_before_line": None,
    }
    assert code == 1
    assert len({record.key for record in await records_of(settings, CALLERS_FACTS)}) == 15_000


async def test_ctrl_c_stops_an_import_and_says_where(settings: Settings, topics: object, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("number,tier\n" + "".join(f"{number},gold\n" for number in numbered(100_000)))
    process = start(settings, "import", str(file), "--json")
    while not await records_of(settings, CALLERS_FACTS):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=15)
    assert process.returncode == 130
    result = json.loads(out)
    assert 0 < result["written"] < 100_000
    assert result["stopped_before_line"] == result["written"] + 2
    assert f"Stopped before line {result['stopped_before_line']}" in said
    assert len(await records_of(settings, CALLERS_FACTS)) == result["written"]


def test_ctrl_c_stops_it_while_kafka_says_nothing(settings: Settings) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = start(settings, "set", NUMBER, "tier=gold", KAFKA_BOOTSTRAP_SERVERS=address)
        silent.accept()
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Stopped: nothing was written." in said
    assert time.monotonic() - asked < 5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"number,name\n+15551234567,M\xfcller\n", "is not UTF-8"),
        (b"phone,name\n", "has no column `number`"),
        (b"", "has no column `number`"),
        (b'number,name\n+15551234567,"' + b"x" * 200_000 + b'"\n', "can't be read as CSV"),
    ],
)
def test_a_file_that_can_t_be_read_is_refused_with_a_sentence(
    settings: Settings, tmp_path: Path, content: bytes, says: str
) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(content)
    code, out, said = facts(settings, "import", str(file))
    assert (code, out) == (2, "")
    assert says in " ".join(said.split())


@pytest.mark.parametrize("verb", ["show", "delete"])
def test_without_a_state_store_nothing_is_said_of_a_caller(settings: Settings, verb: str) -> None:
    code, out, said = facts(settings, verb, NUMBER)
    assert (code, out) == (1, "")
    assert f"What is known of callers can't be read in {settings.state_dir}" in said


def test_facts_named_by_the_user_are_deleted_without_a_state_store(settings: Settings, topics: object) -> None:
    assert facts(settings, "delete", NUMBER, "tier") == (0, "1 fact was written.\n", "")
