"""A port of this machine that leads to a Unix socket: a server that listens on no address can be reached from pods."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK_BYTES = 256 * 1024
_STOP_WITHIN_S = 5.0


@contextmanager
def doorway(host: str, path: Path) -> Iterator[int]:
    """The port of `host`, for as long as the context lasts; a thread of its own carries the bytes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="doorway", daemon=True)
    thread.start()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(lambda reader, writer: _through(path, reader, writer), host, 0)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(_STOP_WITHIN_S)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_WITHIN_S)


async def _through(path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_carry(reader, inner_writer), _carry(inner_reader, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
