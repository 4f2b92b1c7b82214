"""One writer at a time."""

import fcntl
import os
from pathlib import Path
from types import TracebackType


class StoreBusy(RuntimeError):
    """Another process builds the profiles in this directory."""


class WriterLock:
    """Held from its making until `release`, or the end of the process, however it ends.

    Not in the store's own directory, which comes and goes. Raises `StoreBusy`.
    """

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        path = state_dir / "builder.lock"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise StoreBusy(
                f"another profile builder (process {holder or 'unknown'}) works on {state_dir};"
                " each needs a state directory of its own"
            ) from None
        except OSError:
            os.close(self._file)
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """At most once."""
        os.close(self._file)

    def __enter__(self) -> "WriterLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
