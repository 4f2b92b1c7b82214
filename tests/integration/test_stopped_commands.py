"""What is stopped while it waits for a Kafka that says nothing ends in order, at once, with the exit code of shells."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.test_serve_command import ROOT

DEADLINE_S = 30.0  # a client gives such a Kafka up after fifteen seconds, and a command may ask several times


@pytest.fixture
async def silent() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An address where everybody is let in and nobody is answered; set when somebody has come."""
    asked = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    server.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "check"),
        ("topics", "list"),
        ("topics", "apply", "--wait"),
        ("check", "--url", "http://127.0.0.1:9", "--key", "secret"),
    ],
    ids=" ".join,
)
async def test_it_ends_in_order(
    silent: tuple[str, asyncio.Event], tmp_path: Path, arguments: tuple[str, ...], number: signal.Signals
) -> None:
    servers, asked = silent
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *arguments),
        env={**os.environ, "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": servers, "RINGLOG_DATA_DIR": str(tmp_path)},
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
    )
    await asyncio.wait_for(asked.wait(), DEADLINE_S)
    process.send_signal(number)
    out, said = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert (process.returncode, out) == (130, b"")
    assert said.decode().splitlines()[-1] == "Stopped before the end."
    assert b"Traceback" not in said
