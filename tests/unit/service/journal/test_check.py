"""The process that looks at a spool before anybody opens it."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.journal.check import DAMAGED
from service.journal.layout import DATA_FILE
from service.journal.spool import Spool
from tests.unit.service.journal.spooled import MAX_BYTES, entry, fill

ROOT = Path(__file__).parents[4]


def _check(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *options, "-m", "service.journal.check", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture
def filled(directory: Path) -> Path:
    spool = Spool(directory, MAX_BYTES)
    fill(spool, range(3))
    spool.close()
    return directory


def test_a_sound_spool_is_sound(filled: Path, tmp_path: Path) -> None:
    assert _check(filled).returncode == 0
    Spool(tmp_path / "empty", MAX_BYTES).close()
    assert _check(tmp_path / "empty").returncode == 0


def test_it_says_what_is_wrong(filled: Path) -> None:
    value = entry(1).value
    assert value is not None
    with (filled / DATA_FILE).open("r+b") as file:
        file.seek(file.read().index(value))
        file.write(b"\0")
    done = _check(filled)
    assert (done.returncode, done.stdout) == (DAMAGED, "an event does not match its checksum\n")


def test_a_page_in_use_that_is_listed_as_free_is_found_though_every_event_can_be_read(filled: Path) -> None:
    spool = Spool(filled, MAX_BYTES)
    spool.commit(delete=[2])
    spool.close()
    content = bytearray((filled / DATA_FILE).read_bytes())
    values = [entry(number).value for number in (0, 1)]
    used, free = (content.index(value) // 4096 for value in values if value is not None)
    listed = free.to_bytes(8, "little")
    at = content.rindex(listed)
    content[at : at + 8] = used.to_bytes(8, "little")
    (filled / DATA_FILE).write_bytes(content)
    done = _check(filled)
    assert done.returncode == DAMAGED, done
    assert "free" in done.stdout


def test_what_it_can_not_look_at_is_not_called_damaged(tmp_path: Path) -> None:
    done = _check(tmp_path / "nowhere")
    assert done.returncode not in {0, DAMAGED}
    assert "FileNotFoundError" in done.stderr


def test_it_starts_without_what_it_has_no_use_for(filled: Path) -> None:
    done = _check(filled, "-X", "importtime")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"lmdb", "msgspec", "service.journal.sealed"} <= imported
    assert not imported & {"aiokafka", "phonenumbers", "service.journal.journal", "asyncio", "pydantic"}
