"""What is made once on a machine and shared by every checkout: where it lies, who may write it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import platformdirs

from runtime.local_kafka.error import LocalKafkaError
from runtime.local_kafka.progress import Progress

# Until then a process that waits for another's download says nothing: most waits are for a check that takes
# no time.
SILENT_WAIT_S = 1.0
# A cold start measured half a minute; a slow line may need several. Beyond this the other one hangs.
LOCK_DEADLINE_S = 1200.0

_SCRATCH_PREFIX = "unfinished-"


def cache_directory() -> Path:
    """The folder of ringlog in the user's cache, or what ``RINGLOG_CACHE_DIR`` names."""
    named = os.environ.get("RINGLOG_CACHE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    return platformdirs.user_cache_path("ringlog", appauthor=False)


@contextmanager
def scratch(directory: Path, progress: Progress) -> Iterator[Path]:
    """An empty folder for half-made things, owned by one process at a time.

    It lies inside ``directory``, so that what is finished moves to its place by one atomic rename, and its
    siblings left by killed processes are removed: their owner is gone, for we hold the lock. The lock is the
    kernel's, so a killed owner leaves none behind.

    Raises:
        LocalKafkaError: the folder can't be written, or another process keeps the lock for too long.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory / "writer.lock")
        try:
            lock.acquire(timeout=SILENT_WAIT_S)
        except filelock.Timeout:
            with progress.step("Waiting for another process that prepares Kafka"):
                lock.acquire(timeout=LOCK_DEADLINE_S)
    except filelock.Timeout as held:
        raise LocalKafkaError(
            f"another process has been preparing Kafka in {directory} for {LOCK_DEADLINE_S:.0f} s: "
            "end it, then start again"
        ) from held
    except OSError as refused:
        raise LocalKafkaError(
            f"the cache {directory} can't be written ({refused}): set RINGLOG_CACHE_DIR to a folder that can"
        ) from refused
    try:
        for left in directory.glob(f"{_SCRATCH_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=directory, ignore_cleanup_errors=True) as made:
            yield Path(made)
    finally:
        lock.release()
