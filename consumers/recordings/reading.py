"""A sound on its way into the storage."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from consumers.recordings.sound import HEAD_BYTES


class Stopped(Exception):
    """Nobody wants the rest."""


class Reading:
    """Counts and hashes what goes by, and remembers whose fault a failure was: the source's or the storage's."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._ahead = b""
        self._digest = hashlib.sha256()
        self._waiting: asyncio.Task[object] | None = None
        self._stopped = False
        self.bytes = 0
        self.error: Exception | None = None

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def head(self) -> bytes:
        """The first bytes, at least `HEAD_BYTES` unless there are fewer; they are still given by `rest`."""
        while len(self._ahead) < HEAD_BYTES and (chunk := await anext(self._chunks, b"")):
            self._ahead += chunk
        return self._ahead[:HEAD_BYTES]

    async def rest(self) -> AsyncIterator[bytes]:
        """All of it. Each step may be taken by another task: the storage's client does so."""
        try:
            if self._ahead:
                yield self._counted(self._ahead)
            while chunk := await self._next():
                yield self._counted(chunk)
        except Exception as error:
            self.error = error
            raise

    def stop(self) -> None:
        """Whoever takes the rest gets `Stopped`, also when he waits for it now."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _next(self) -> bytes:
        if self._stopped:
            raise Stopped
        self._waiting = asyncio.current_task()
        try:
            return await anext(self._chunks, b"")
        except asyncio.CancelledError:
            if self._stopped:
                raise Stopped from None
            raise
        finally:
            self._waiting = None

    def _counted(self, chunk: bytes) -> bytes:
        # A chunk is what a socket gives at once, some 100 KiB: hashing it takes less than handing it to a thread.
        self._digest.update(chunk)
        self.bytes += len(chunk)
        return chunk
