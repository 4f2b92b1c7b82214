"""The public application: the two webhooks, and an answer in JSON to everything else."""

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.logs import logger
from runtime.ops import JSON_ERRORS
from service.responses import FAILED_HERE, error_body, send_json

PREFETCH_PATH = "/webhooks/prefetch"
END_OF_CALL_PATH = "/webhooks/end-of-call"

_FAILED = error_body(FAILED_HERE, "failed")


class Webhooks:
    """Starlette has both webhooks as routes, and knows how to refuse what is none: 404, 405.

    What names a webhook exactly goes to it directly: Starlette's two layers of error handling and its routing take
    more time than any other single step of a prefetch.
    """

    def __init__(self, prefetch: ASGIApp, end_of_call: ASGIApp) -> None:
        self._log = logger("service")
        self._direct = {("GET", PREFETCH_PATH): prefetch, ("POST", END_OF_CALL_PATH): end_of_call}
        self._starlette = Starlette(
            routes=[
                Route(PREFETCH_PATH, prefetch, methods=["GET"]),
                Route(END_OF_CALL_PATH, end_of_call, methods=["POST"]),
            ],
            exception_handlers=JSON_ERRORS,
        )
        self._starlette.router.redirect_slashes = False  # a POST that is redirected is a lost one; and so it is JSON

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        webhook = self._direct.get((scope["method"], scope["path"]))
        if webhook is None:
            await self._starlette(scope, receive, send)
            return
        try:
            await webhook(scope, receive, send)
        except Exception:
            self._log.exception("a webhook failed")
            await send_json(send, 500, _FAILED)
