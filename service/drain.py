"""Before the end: `GET /drain?seconds=5` of the internal listener, for whoever will stop this process afterwards."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from runtime.ops import json_response

SECONDS = 5.0  # when the question does not say
LONGEST_S = 60.0


class Drain:
    """Answers after so many seconds. From the beginning of them every answer of the webhooks closes its connection.

    A proxy keeps connections open, and sends calls over them to a process to which it would open no new one. Were they
    closed without a word at the end, one would be closed just when a call is on its way, and what has a body is not
    sent again. It can't be taken back: what drains is about to end. A GET, because Kubernetes' hooks send no other.
    """

    def __init__(self, announce_end: Callable[[], None]) -> None:
        self._announce_end = announce_end

    async def answer(self, request: Request) -> Response:
        try:
            seconds = min(float(request.query_params.get("seconds", SECONDS)), LONGEST_S)
        except ValueError:
            return json_response({"error": "seconds must be a number"}, 400)
        self._announce_end()
        await asyncio.sleep(seconds)
        return json_response({"drained": True})
