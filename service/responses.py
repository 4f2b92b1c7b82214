"""Raw ASGI answers for the two webhooks: no response objects on the hot paths."""

from collections.abc import Sequence

import msgspec
from starlette.types import Send

Header = tuple[bytes, bytes]

_JSON: Header = (b"content-type", b"application/json")

FAILED_HERE = "Something went wrong here; the log has it."


async def send_json(send: Send, status: int, body: bytes, extra: Sequence[Header] = ()) -> None:
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_body(sentence: str, reason: str) -> bytes:
    """`reason` is a word for programs, `sentence` is for people."""
    return msgspec.json.encode({"error": sentence, "reason": reason})


# For a request of which something is still to come that nobody wants any more.
CLOSE: tuple[Header, ...] = ((b"connection", b"close"),)
