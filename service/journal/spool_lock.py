"""One process at a time has a spool."""

import contextlib
import fcntl
import os
from pathlib import Path

from service.journal.spool_errors import SpoolBusy


class SpoolLock:
    """Held from its making until `release`, or the end of the process, however it ends.

    It lies beside the spool's directory, which is renamed when the spool is damaged. Raises `SpoolBusy`, or `OSError`.
    """

    def __init__(self, directory: Path) -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        path = directory.with_name(directory.name + ".lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise SpoolBusy(
                f"process {holder or 'unknown'} has the spool in {directory};"
                " each service needs a data directory of its own"
            ) from None
        except OSError:
            os.close(self._file)
            raise
        with contextlib.suppress(OSError):  # a full disk: the number is only for the message above
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """At most once."""
        os.close(self._file)
