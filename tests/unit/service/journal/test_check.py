"""The process that looks at a spool before anybody opens it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lmdb.verify import VerifyError, verify

from service.journal.check import DAMAGED, check
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


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of three levels, with much that is free in between, small and large events, and some that are refused."""
    directory = tmp_path_factory.mktemp("grown") / "spool"
    spool = Spool(directory, MAX_BYTES)
    spool.commit([(seq, entry(seq, size=10 + seq % 400)) for seq in range(1, 1400)])
    spool.commit([(seq, entry(seq, size=2000 + 300 * (seq % 9))) for seq in range(1400, 1420)])
    spool.commit(delete=[*range(30, 1380), 1405], refuse=[(seq, "no") for seq in (3, 1400, 1401)])
    spool.commit([(seq, entry(seq, size=700)) for seq in range(1420, 1460)])
    spool.commit(delete=[1401, 1402])
    spool.close()
    file = directory / DATA_FILE
    os.truncate(file, -(-len(file.read_bytes().rstrip(b"\0")) // 4096) * 4096)
    return directory


@pytest.mark.parametrize(("step", "masks"), [(2801, (0xFF,)), pytest.param(101, (0xFF, 0x01), marks=pytest.mark.slow)])
def test_it_finds_all_that_lmdb_itself_finds(grown: Path, step: int, masks: tuple[int, ...]) -> None:
    file = grown / DATA_FILE
    sound = file.read_bytes()
    check(grown)
    assert _verified(file) == []
    heads = [page + byte for page in range(0, len(sound), 4096) for byte in range(page // 4096 % 5, 20, 5)]
    places = {*range(0, 168, 4), *range(4096, 4096 + 168, 4), *heads, *range(0, len(sound), step)}
    found, harmless = 0, 0
    with file.open("r+b", buffering=0) as opened:
        for at in places:
            for mask in masks:
                os.pwrite(opened.fileno(), bytes([sound[at] ^ mask]), at)
                if _is_damaged(grown):
                    found += 1
                else:
                    assert _verified(file) == [], f"byte {at}, mask {mask:#x}"
                    harmless += 1
                os.pwrite(opened.fileno(), sound[at : at + 1], at)
    check(grown)
    assert found > 100
    assert harmless > 100


def _is_damaged(directory: Path) -> bool:
    try:
        check(directory)
    except Exception:  # as `main` does
        return True
    return False


def _verified(file: Path) -> list[str]:
    try:
        found: list[str] = verify(str(file), subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as error:
        return [str(error)]
    return found


def test_what_it_can_not_look_at_is_not_called_damaged(tmp_path: Path) -> None:
    done = _check(tmp_path / "nowhere")
    assert done.returncode not in {0, DAMAGED}
    assert "FileNotFoundError" in done.stderr


def test_it_starts_without_what_it_has_no_use_for(filled: Path) -> None:
    done = _check(filled, "-X", "importtime")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"msgspec", "service.journal.sealed"} <= imported
    assert not imported & {"aiokafka", "phonenumbers", "service.journal.journal", "asyncio", "pydantic"}
