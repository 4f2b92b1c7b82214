"""Tokens for Kafka's SASL mechanism OAUTHBEARER, by OAuth's client credentials."""

import base64
import time
from collections.abc import Callable
from urllib.parse import quote_plus

import aiohttp
import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

ANSWER_WITHIN_S = 10.0  # well within the deadline of a client's start, which includes it

# A token is not used in the last part of its life: it must still be valid when the broker looks at it.
UNUSED_SHARE = 0.2

# Of a token whose server does not say how long it lives. Source: RFC 6749, 5.1, which only recommends to say it.
UNTOLD_LIFE_S = 60.0


class _Answer(msgspec.Struct):
    """Source: RFC 6749, 5.1. Some servers send the seconds as text."""

    access_token: str
    expires_in: float | str | None = None


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]
    """Asks `token_url` for a token, and again when its life nears its end. One for each client of Kafka.

    aiokafka asks at each connection. It does not authenticate again on a living one: a broker that wants that
    (`connections.max.reauth.ms`) closes it, and the client connects anew with a new token.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        scope: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = token_url
        # Each form-encoded, so that a colon in an id is none. Source: RFC 6749, 2.3.1.
        credentials = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        self._headers = {"authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
        self._form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        self._clock = clock
        self._token = ""
        self._until = 0.0

    async def token(self) -> str:
        """Raises `KafkaConnectionError`, which a client takes for a broker that is away, and tries again."""
        asked = self._clock()
        if self._token and asked < self._until:
            return self._token
        answer = await self._ask()
        self._token = answer.access_token
        self._until = asked + _life_s(answer) * (1 - UNUSED_SHARE)
        return self._token

    async def _ask(self) -> _Answer:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)) as http,
                http.post(self._url, data=self._form, headers=self._headers, allow_redirects=False) as response,
            ):
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(str(error) or f"no answer in {ANSWER_WITHIN_S:g} s") from None
        if response.status != 200:
            raise self._failed(f"status {response.status}: {body[:200].decode(errors='replace')}")
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._failed("its answer has no access_token") from None
        return answer

    def _failed(self, why: str) -> KafkaConnectionError:
        return KafkaConnectionError(f"no token for Kafka from {self._url}: {why}")


def _life_s(answer: _Answer) -> float:
    try:
        return float(answer.expires_in) if answer.expires_in is not None else UNTOLD_LIFE_S
    except ValueError:
        return UNTOLD_LIFE_S
