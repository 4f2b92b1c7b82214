"""A clock that jumps under one running process, and under nobody else."""

import importlib.util
import os
from pathlib import Path

import pytest

DAY_S = 86_400

_LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"


class WrongClock:
    """`environment` is for the process. Its monotonic clock stays true, as the kernel's does whatever the wall says."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.show(0)
        self.environment = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",  # a jump is seen at once
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def show(self, ahead_s: int) -> None:
        """So many seconds ahead of the true time, or behind it."""
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(f"{ahead_s:+d}s\n")
        unfinished.replace(self._file)


def _library() -> Path:
    spec = importlib.util.find_spec("libfaketime")
    library = (
        Path(next(iter(spec.submodule_search_locations)), _LIBRARY)
        if spec and spec.submodule_search_locations
        else None
    )
    if library is None or not library.exists():
        reason = "libfaketime is not installed (pip install 'ringlog[test]'), or not for this machine"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}. In CI nothing is skipped.", pytrace=False)
        pytest.skip(reason)
    return library
