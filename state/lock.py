"""One at a time."""

import fcntl
import os
from pathlib import Path
from types import TracebackType


class StoreBusy(RuntimeError):
    """Another process does it already; one sentence."""


class Lock:
    """Held from its making until `release`, or the end of the process, however it ends. Raises `StoreBusy`.

    `work`, for the sentence: what the holder does, such as `builds the profiles in /data/state`.
    """

    def __init__(self, file: Path, work: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise StoreBusy(f"another process ({holder or 'unknown'}) {work}") from None
        except OSError:
            os.close(self._file)
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def writer_lock(store: Path) -> Lock:
    """Of the store in this directory: LMDB would let a second writer wait, and ours must know that they are alone."""
    return Lock(store / "writer.lock", f"writes {store}")
