"""The floor: uvicorn, and an ASGI callable that does nothing. A POST's body is read, because all read it."""

from starlette.types import Receive, Scope, Send

_BODY = b"{}"
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
