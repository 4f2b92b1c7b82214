"""A TCP proxy in front of a broker, which makes the network as bad as a test wants it."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from tests.faults.ports import HOST

# Of Kafka's protocol: a message is its size (4 bytes) and so many bytes more. A request begins with the number of its
# kind (2 bytes), its version (2) and its correlation id (4), with which its response begins. Produce is number 0.
_PRODUCE = 0

_CHUNK_BYTES = 64 * 1024
# A throttled stream goes on in steps of this length.
_STEP_S = 0.05
_START_DEADLINE_S = 10.0

# Looks at a chunk before it goes on; true: it does not, and the connection ends.
_Look = Callable[[bytes], bool]


class Proxy:
    """Listens on `port`, forwards to `target`, in a thread of its own. What is set holds at once, also for connections
    that are open.

    Attributes:
        latency_s: By which every chunk is late, in each direction.
        bytes_per_s: Of each connection, in each direction; None: as fast as it goes.
        half_open: Connections are accepted and never closed, and nothing goes through.
        loses_acks: The next acknowledgement of every connection doesn't arrive: the broker has appended what it was
            sent, its answer is swallowed, and the connection is cut.
        acks_lost: How many have been swallowed.
    """

    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{port}", daemon=True)
        self.acks_lost = 0
        self.cuts = 0
        self.restore()

    def restore(self) -> None:
        """As if it weren't there. What it held back goes through now."""
        self.latency_s = 0.0
        self.bytes_per_s: float | None = None
        self.half_open = False
        self.loses_acks = False

    def reset(self) -> None:
        """Cuts all connections with a reset, which discards what is under way. Returns when that is done."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._cut_all)
        self._loop.call_soon_threadsafe(done.set)
        done.wait(_START_DEADLINE_S)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(_START_DEADLINE_S):
            raise OSError(f"the proxy does not listen on {HOST}:{self._port}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._accept, HOST, self._port)
        self._listening.set()
        await self._stopping.wait()
        server.close()
        self._cut_all()
        await asyncio.gather(*(connection.ended.wait() for connection in self._connections))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        self._connections.add(connection)
        try:
            await connection.run(reader, self._target)
        finally:
            self._connections.discard(connection)
            connection.ended.set()

    def _cut_all(self) -> None:
        self.cuts += len(self._connections)
        for connection in self._connections:
            connection.cut()


class _Connection:
    """One client's connection and ours to the broker."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.ended = asyncio.Event()
        self._proxy = proxy
        self._is_cut = False
        self._writers = [client]
        self._pumps: list[asyncio.Task[None]] = []
        self._requests = _Messages()
        self._responses = _Messages()
        self._unacknowledged: set[int] = set()

    async def run(self, reader: asyncio.StreamReader, target: int) -> None:
        client = self._writers[0]
        try:
            await self._while_half_open()
            if self._is_cut:
                return
            from_broker, broker = await asyncio.open_connection(HOST, target)
        except OSError:  # the broker is dead, and so is what stands for it
            self.cut()
            return
        self._writers.append(broker)
        self._pumps = [
            asyncio.create_task(self._pump(reader, broker, self._note_requests)),
            asyncio.create_task(self._pump(from_broker, client, self._lose_ack)),
        ]
        await asyncio.wait(self._pumps, return_when=asyncio.FIRST_COMPLETED)
        self._close()
        await asyncio.wait(self._pumps)

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            # With a linger of zero seconds the kernel sends a reset in place of an orderly end.
            with contextlib.suppress(OSError):  # it is closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    def _close(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        for writer in self._writers:
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: _Look) -> None:
        with contextlib.suppress(OSError):  # one end has gone: so does the other
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._delay(len(chunk))
                if look(chunk):
                    return
                writer.write(chunk)
                await writer.drain()

    async def _delay(self, size: int) -> None:
        """One chunk after the other: a latency bounds the throughput, too, as it does with few requests in flight."""
        if self._proxy.latency_s:
            await asyncio.sleep(self._proxy.latency_s)
        started = time.monotonic()
        while (speed := self._proxy.bytes_per_s) and time.monotonic() - started < size / speed:  # noqa: ASYNC110
            await asyncio.sleep(_STEP_S)
        await self._while_half_open()

    async def _while_half_open(self) -> None:
        while self._proxy.half_open and not self._is_cut:  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(_STEP_S)

    def _note_requests(self, chunk: bytes) -> bool:
        for head in self._requests.heads(chunk):
            kind, _version, correlation = struct.unpack(">hhi", head)
            if kind == _PRODUCE and self._proxy.loses_acks:
                self._unacknowledged.add(correlation)
        return False

    def _lose_ack(self, chunk: bytes) -> bool:
        for head in self._responses.heads(chunk):
            (correlation,) = struct.unpack_from(">i", head)
            if correlation in self._unacknowledged:
                self._proxy.acks_lost += 1
                asyncio.get_running_loop().call_soon(self.cut)
                return True
        return False


class _Messages:
    """Finds where messages begin in a stream that comes in pieces."""

    HEAD_BYTES = 8

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skip = 0

    def heads(self, chunk: bytes) -> Iterator[bytes]:
        """The first bytes, without the size, of each message of which enough has come."""
        self._rest += chunk
        while True:
            skipped = min(self._skip, len(self._rest))
            del self._rest[:skipped]
            self._skip -= skipped
            if self._skip or len(self._rest) < 4 + self.HEAD_BYTES:
                return
            (size,) = struct.unpack_from(">i", self._rest)
            yield bytes(self._rest[4 : 4 + self.HEAD_BYTES])
            self._skip = 4 + size
