"""Fetching a recording over HTTP from a server that nobody vouches for."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from types import TracebackType

import aiohttp
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, hdrs
from yarl import URL

from consumers.recordings.guard import CheckedResolver, Guard, Refused
from consumers.recordings.sound import HEAD_BYTES, is_a_page

CONNECT_S = 10.0  # name, connection and TLS together
SILENCE_S = 60.0  # a server that prepares a file may think for so long, and a stalled one holds a worker no longer
MAX_REDIRECTS = 5  # a storage link behind a short one behind a gateway needs three

_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class FetchFailed(Exception):
    """Not fetched this time: it may be there later. The text never holds the URL."""


class Fetcher:
    """One HTTP client for all downloads: no proxy, cookies or credentials of ours, and no address unchecked.

    An asynchronous context manager, to be made inside the running loop.
    """

    def __init__(self, guard: Guard, max_bytes: int) -> None:
        self._guard = guard
        self._max_bytes = max_bytes
        self._timeout = ClientTimeout(total=None, connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=SILENCE_S)

    async def __aenter__(self) -> "Fetcher":
        self._session = ClientSession(
            connector=TCPConnector(
                resolver=CheckedResolver(self._guard),
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
        can go wrong: no connection, another answer than 200, silence, fewer bytes than announced, or a page
        instead of sound.
        """
        with _as_failures():
            response = await self._final_answer(self._guard.check(url))
        try:
            self._check(response)
            yield self._body(response)
        finally:
            response.close()

    async def _final_answer(self, url: URL) -> ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._session.get(url, allow_redirects=False)
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get(hdrs.LOCATION, "")
            response.close()
            url = self._guard.check(_joined(url, location))
        raise FetchFailed(f"more than {MAX_REDIRECTS} redirects")

    def _check(self, response: ClientResponse) -> None:
        if response.status != 200:
            raise FetchFailed(f"the server answered {response.status}")
        if response.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            raise FetchFailed("the server compressed its answer unasked")
        if (response.content_length or 0) > self._max_bytes:
            raise self._too_large()

    async def _body(self, response: ClientResponse) -> AsyncIterator[bytes]:
        size = 0
        with _as_failures():
            head = await _head(response)
            if is_a_page(head, response.content_type):
                raise FetchFailed(f"the server sent a page, not sound ({response.content_type[:60]})")
            chunk = head
            while chunk:
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_large()
                yield chunk
                chunk = await response.content.readany()
        if not size:
            raise FetchFailed("the answer was empty")
        if response.content_length not in (None, size):
            raise FetchFailed(f"{size} bytes arrived, {response.content_length} were announced")

    def _too_large(self) -> Refused:
        return Refused(f"the recording is larger than RINGLOG_RECORDING_MAX_BYTES, {self._max_bytes} bytes")


async def _head(response: ClientResponse) -> bytes:
    """The first bytes, enough to tell what they are; fewer only when there are no more."""
    head = b""
    while len(head) < HEAD_BYTES and (chunk := await response.content.readany()):
        head += chunk
    return head


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


@contextlib.contextmanager
def _as_failures() -> Iterator[None]:
    """aiohttp's errors as `FetchFailed`; their texts may hold the URL, so only what is known to be safe is said."""
    try:
        yield
    except TimeoutError as error:
        raise FetchFailed("the server was silent for too long") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise FetchFailed("the host's name could not be resolved") from error
    except aiohttp.ClientPayloadError as error:
        raise FetchFailed("the answer broke off") from error
    except (ClientError, OSError) as error:
        reason = getattr(error, "strerror", None)
        raise FetchFailed(f"{type(error).__name__}{f': {reason}' if reason else ''}") from error
