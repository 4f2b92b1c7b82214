"""A downloader in a process of its own, to be killed, or to share the work with others."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import tests
from consumers.database import open_engine
from consumers.recordings import Downloader
from runtime.local_kafka import dies_with_us
from runtime.settings import PREFIX, Settings, load_settings


@contextlib.contextmanager
def downloading_process(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """Running; killed afterwards."""
    own = {
        "DATABASE_URL": settings.database,
        "DATA_DIR": str(settings.data_dir),
        "RECORDINGS_URL": settings.recordings,
        "RECORDING_PRIVATE_HOSTS": ",".join(settings.recording_private_hosts),
        "RECORDING_WORKERS": str(settings.recording_workers),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name],
        cwd=Path(tests.__path__[0]).parent,
        env={**os.environ, **{PREFIX + name: value for name, value in own.items()}},
        preexec_fn=dies_with_us(),  # noqa: PLW1509 - it only calls what was loaded before the fork
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    _settings = load_settings()
    asyncio.run(Downloader(_settings, open_engine(_settings)).run(asyncio.Event()))
