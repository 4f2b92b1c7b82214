"""Why a recording was not fetched this time."""

import contextlib
from collections.abc import Iterator

import aiohttp
from aiohttp import ClientError


class FetchFailed(Exception):
    """Not fetched this time: it may be there later. The text never holds the URL."""


class Interrupted(FetchFailed):
    """There was no connection, or it ended or fell silent: what is missing may be had over another one, at once."""


@contextlib.contextmanager
def as_failures() -> Iterator[None]:
    """aiohttp's errors as `FetchFailed`; their texts may hold the URL, so only what is known to be safe is said."""
    try:
        yield
    except TimeoutError as error:
        raise Interrupted("the server was silent for too long") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise FetchFailed("the host's name could not be resolved") from error
    except aiohttp.ClientPayloadError as error:
        raise Interrupted("the answer broke off") from error
    except (ClientError, OSError) as error:
        reason = getattr(error, "strerror", None)
        kind = Interrupted if isinstance(error, OSError | aiohttp.ClientConnectionError) else FetchFailed
        raise kind(f"{type(error).__name__}{f': {reason}' if reason else ''}") from error
