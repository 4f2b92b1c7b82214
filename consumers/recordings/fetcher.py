"""Fetching a recording over HTTP from a server that nobody vouches for."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from types import TracebackType

from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, hdrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from consumers.recordings.download import Download
from consumers.recordings.failure import FetchFailed, as_failures
from consumers.recordings.guard import CheckedResolver, Guard, Refused
from consumers.recordings.pace import Pace

CONNECT_S = 10.0  # name, connection and TLS together
SILENCE_S = 60.0  # a server that prepares a file may think for so long, and a stalled one holds a worker no longer
MAX_REDIRECTS = 5  # a storage link behind a short one behind a gateway needs three

_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class Fetcher:
    """One HTTP client for all downloads: no proxy, cookies or credentials of ours, and no address unchecked.

    An asynchronous context manager, to be made inside the running loop. `min_rate` is in bytes a second, 0 for none.
    Names are resolved by the system, or by `resolver`; what it says is judged either way.
    """

    def __init__(
        self, guard: Guard, max_bytes: int, min_rate: int = 0, resolver: AbstractResolver | None = None
    ) -> None:
        self._guard = guard
        self._max_bytes = max_bytes
        self._min_rate = min_rate
        self._resolver = CheckedResolver(guard, resolver)
        self._timeout = ClientTimeout(total=None, connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=SILENCE_S)

    async def __aenter__(self) -> "Fetcher":
        self._session = ClientSession(
            connector=TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,  # what was resolved is used for the connection that it was resolved for
                limit=0,  # the workers are the limit
                force_close=True,
            ),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=self._timeout,
            headers={hdrs.ACCEPT: "*/*", hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "ringlog"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    @contextlib.asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of the recording, in chunks as they arrive; reading them raises like the opening.

        Raises `Refused` for an address, a redirect or a size that we don't accept, `FetchFailed` for all else that
        can go wrong: no connection, another answer than 200, silence, a trickle, fewer bytes than announced, or a page
        instead of sound.
        """
        ask = partial(self._ask, url)
        download = Download(ask, await ask({}), self._max_bytes, Pace(self._min_rate))
        try:
            yield download.chunks()
        finally:
            download.close()

    async def _ask(self, said: str, headers: Mapping[str, str]) -> ClientResponse:
        """The answer at the end of the redirects. The whole way is judged, each time."""
        url = self._guard.check(said)
        with as_failures():
            for _ in range(MAX_REDIRECTS + 1):
                response = await self._session.get(url, allow_redirects=False, headers=headers)
                if response.status not in _REDIRECTS:
                    return response
                location = response.headers.get(hdrs.LOCATION, "")
                response.close()
                url = self._guard.check(_joined(url, location))
        raise FetchFailed(f"more than {MAX_REDIRECTS} redirects")


def _joined(url: URL, location: str) -> URL:
    """Raises `Refused`, as for the first address."""
    if not location:
        raise FetchFailed("a redirect to nowhere")
    if any(character <= " " or character == "\x7f" for character in location):
        raise Refused("a redirect holds spaces or control characters")
    try:
        return url.join(URL(location, encoded=location.isascii()))
    except ValueError:
        raise Refused("a redirect is no URL") from None
