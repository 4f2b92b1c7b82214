"""Whether the server beside a profile builder should be started by now: `/health/started` of the builder."""

import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from runtime.ops import Health, json_response

WITHIN_S = 60.0  # when the question does not say

# After so long without reading, Kafka is away or has no topics yet. A server accepts calls all the same, so it must
# not wait for that.
WITHOUT_KAFKA_S = 10.0


class BuilderStart:
    """200 when the store has caught up, or waiting for it is no longer worth a call: else 503.

    A builder that starts before its server, as a sidecar does, spares callers an answer as if they were unknown. But
    nothing that a server waits for may last: the question says how long, as `?within=<seconds>`, and without Kafka it
    is ten seconds.
    """

    def __init__(self, health: Callable[[], Health], now: Callable[[], float] = time.monotonic) -> None:
        self._health = health
        self._now = now
        self._began = now()

    async def answer(self, request: Request) -> Response:
        try:
            within_s = float(request.query_params.get("within", WITHIN_S))
        except ValueError:
            return json_response({"error": "within must be a number of seconds"}, 400)
        health = self._health()
        waited_s = self._now() - self._began
        if health.reasons["kafka"] != "reading":
            within_s = min(within_s, WITHOUT_KAFKA_S)
        started = health.ready or waited_s >= within_s
        return json_response({"started": started, "caught_up": health.ready}, 200 if started else 503)
