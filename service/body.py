"""Reading a request's body, within limits of size and time."""

import asyncio
import contextlib
import hashlib

from starlette.types import Receive

from schemas.rejected import HEAD_BYTES

# uvicorn lets a client take for ever. 8 MiB in 30 s is 280 kB/s: any provider's server does better.
BODY_DEADLINE_S = 30.0

# Of a body over the limit we read on, for its size and hash, but not without end.
READ_ON_BYTES = 64 * 1024 * 1024


class BodyTooLarge(ValueError):
    """`head` is its first part; `size` and `sha256` are of what was read: all of it, unless it was endless."""

    def __init__(self, head: bytes, size: int, sha256: str) -> None:
        super().__init__(f"{size} bytes")
        self.head = head
        self.size = size
        self.sha256 = sha256


class BodyIncomplete(ConnectionError):
    """The client went away, or was too slow. `received` is what came."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"{len(received)} bytes came")
        self.received = received


async def read_body(receive: Receive, limit: int) -> bytes:
    """Raises `BodyTooLarge` or `BodyIncomplete`."""
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            while more and size <= limit:
                more = await _next(receive, parts)
                size += len(parts[-1])
    except (TimeoutError, ConnectionError):
        raise BodyIncomplete(b"".join(parts)) from None
    if size > limit:
        raise await _too_large(receive, parts, more)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _next(receive: Receive, parts: list[bytes]) -> bool:
    """Appends one part; whether more will come. Raises `ConnectionError`."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ConnectionError
    parts.append(message.get("body", b""))
    return bool(message.get("more_body"))


async def _too_large(receive: Receive, parts: list[bytes], more: bool) -> BodyTooLarge:
    """Reads on, but keeps no more than the head."""
    received = b"".join(parts)
    head, size, digest = received[:HEAD_BYTES], len(received), hashlib.sha256(received)
    with contextlib.suppress(TimeoutError, ConnectionError):  # then size and hash are of what came
        async with asyncio.timeout(BODY_DEADLINE_S):
            while more and size <= READ_ON_BYTES:
                parts.clear()
                more = await _next(receive, parts)
                size += len(parts[0])
                digest.update(parts[0])
    return BodyTooLarge(head, size, digest.hexdigest())
