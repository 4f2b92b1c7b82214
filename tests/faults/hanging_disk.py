"""A disk that hangs: a file system in a file, which is frozen. Whoever writes then waits, and is not told anything."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class HangingDisk:
    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        subprocess.run(["fsfreeze", "--freeze", str(self.path)], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self.path)], check=True)

    def remount(self, how: str) -> None:
        """`ro` or `rw`; while a file is open for writing, it can't become read-only."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)


@contextlib.contextmanager
def hanging_disk(directory: Path, size_mb: int) -> Iterator[HangingDisk]:
    """Mounted in `directory`. Skips the test where nobody may mount or freeze."""
    image, path = directory / "disk.image", directory / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(size_mb * 1024 * 1024)
    _needed("mkfs.ext4", "-q", str(image))
    _needed("mount", "-o", "loop", str(image), str(path))
    try:
        disk = HangingDisk(path)
        _needed("fsfreeze", "--freeze", str(path))
        _needed("fsfreeze", "--unfreeze", str(path))
        yield disk
    finally:
        # Lazily: whoever still has a file open there must not leave the mount behind.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _needed(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr.strip() if done.returncode else None
    except FileNotFoundError as error:
        said = str(error)
    if said is not None:
        pytest.skip(f"a disk that hangs can't be made here: {said}")
