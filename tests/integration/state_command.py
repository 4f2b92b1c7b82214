"""`ringlog state ...` as a user runs it: a process of its own, because LMDB forbids a reader in that of the writer."""

import asyncio
import json
import os
import sys
from typing import Any, NamedTuple

from runtime.settings import Settings
from tests.integration.test_serve_command import ROOT


class Ended(NamedTuple):
    code: int
    out: str
    said: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def start(settings: Settings, *arguments: str, **changes: str) -> asyncio.subprocess.Process:
    named = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "IDENTITY_KEY": "identity-key-of-the-tests",
        "DATA_DIR": str(settings.data_dir),
        **changes,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli.main", "state", *arguments),
        env={**os.environ, "COLUMNS": "200", **{f"RINGLOG_{name}": value for name, value in named.items()}},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> Ended:
    out, said = await asyncio.wait_for(process.communicate(), 120)
    assert b"Traceback" not in said, said.decode()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), said.decode())


async def state(settings: Settings, *arguments: str, **changes: str) -> Ended:
    """`changes` are settings, by their names without the prefix."""
    return await end(await start(settings, *arguments, **changes))
