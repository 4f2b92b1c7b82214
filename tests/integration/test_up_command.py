"""`ringlog up` as a process: how it ends when it has hardly begun."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from runtime.local_kafka.jars import distribution_directory
from tests.integration.test_serve_command import ROOT


@contextmanager
def up(folder: Path, **settings: str) -> "Iterator[subprocess.Popen[str]]":
    """Without a Kafka of ours; whatever becomes of the test, it does not outlive it."""
    named = {f"RINGLOG_{name}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "up"],
        env={**os.environ, "RINGLOG_DATA_DIR": str(folder / "data"), "COLUMNS": "200", **named},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_line(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"it ended without a word of {words!r}")


def test_ctrl_c_ends_it_while_the_first_start_waits_for_a_download(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    distribution = distribution_directory(cache)
    distribution.mkdir(parents=True)
    with (
        filelock.FileLock(distribution / "writer.lock"),  # as another process that downloads
        up(tmp_path, CACHE_DIR=str(cache)) as process,
    ):
        wait_for_line(process, "Waiting for another process that prepares Kafka")
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert time.monotonic() - asked < 5
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
