"""The public application: straight to a webhook, JSON for all else."""

import json

from starlette.types import Message, Receive, Scope, Send

from service.responses import send_json
from service.webhooks import END_OF_CALL_PATH, PREFETCH_PATH, Webhooks


async def prefetch(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send_json(send, 200, b'"prefetch"')


async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ZeroDivisionError


async def ask(method: str, path: str) -> tuple[int, object]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": []}
    await Webhooks(prefetch, broken)(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def test_a_webhook_is_reached_and_what_is_none_is_refused_in_json() -> None:
    assert await ask("GET", PREFETCH_PATH) == (200, "prefetch")
    assert await ask("POST", PREFETCH_PATH) == (405, {"error": "Method Not Allowed"})
    assert await ask("GET", PREFETCH_PATH + "/") == (404, {"error": "Not Found"})


async def test_a_webhook_that_fails_says_so_in_json() -> None:
    assert await ask("POST", END_OF_CALL_PATH) == (
        500,
        {"error": "Something went wrong here; the log has it.", "reason": "failed"},
    )
