"""A disk that is soon full: a file system in memory of a few megabytes."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Not a page is left."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as filler:  # it ends by ENOSPC
            while True:
                filler.write(b"\0" * 4096)

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """`ro` or `rw`; while a file is open for writing, it can't become read-only."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_bsize


@contextlib.contextmanager
def small_disk(size_mb: int) -> Iterator[SmallDisk]:
    """Mounted below the temporary directory. Skips the test where nobody may mount."""
    # Directly below it, and open to all: a PostgreSQL started by root runs as another user.
    path = Path(tempfile.mkdtemp(prefix="ringlog-test-disk-"))
    path.chmod(0o755)
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
        try:
            yield SmallDisk(path)
        finally:
            # Lazily: whoever still has a file open there must not leave the mount behind.
            subprocess.run(["umount", "--lazy", str(path)], check=True)
    finally:
        path.rmdir()
