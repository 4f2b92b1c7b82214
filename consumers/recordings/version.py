"""Which version of a recording an answer is part of: bytes of two versions must never become one file."""

import re
from datetime import timedelta
from email.utils import parsedate_to_datetime

import msgspec
from aiohttp import ClientResponse, hdrs
from yarl import URL

from consumers.recordings.failure import FetchFailed

# A time in whole seconds says nothing of a file that may have changed twice in one. RFC 9110 (8.8.2.2) wants one second
# between the change and the answer; its predecessor a minute, which a server with several machines needs.
SETTLED = timedelta(seconds=60)

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class Version(msgspec.Struct, frozen=True):
    """`validator` is what the server said in `header` when it sent the first bytes; `place` is where it stood, without
    the query, because a signature in it changes with each redirect."""

    header: str
    validator: str
    place: URL


def version_of(response: ClientResponse) -> Version | None:
    """None when the answer has no strong validator: then what is missing can't be asked for (RFC 9110, 13.1.5)."""
    place = _place(response)
    etag = response.headers.get(hdrs.ETAG, "")
    if len(etag) > 2 and etag[0] == etag[-1] == '"':  # a weak one begins with W/
        return Version(hdrs.ETAG, etag, place)
    changed = response.headers.get(hdrs.LAST_MODIFIED, "")
    return Version(hdrs.LAST_MODIFIED, changed, place) if _settled(changed, response) else None


def total_of(response: ClientResponse, version: Version, start: int, total: int | None) -> int | None:
    """The length of the whole, when the answer goes on at `start` with the same version; `total` if that was known.

    Raises `FetchFailed` for any other answer.
    """
    if response.status == 200:
        raise FetchFailed("the answer broke off, and the server can't go on or the recording has changed")
    if response.status != 206:
        raise FetchFailed(f"the answer broke off, and to go on the server answered {response.status}")
    if response.headers.get(version.header) != version.validator or _place(response) != version.place:
        raise FetchFailed("the answer broke off, and the rest is not of the same recording")
    part = _CONTENT_RANGE.fullmatch(response.headers.get(hdrs.CONTENT_RANGE, ""))
    if part is None or int(part[1]) != start:
        raise FetchFailed("the answer broke off, and the rest is not what was asked for")
    whole = None if part[3] == "*" else int(part[3])
    if whole is not None and (whole <= int(part[2]) or total not in (None, whole)):
        raise FetchFailed("the answer broke off, and the rest is of another length")
    return total if whole is None else whole


def _place(response: ClientResponse) -> URL:
    return response.url.with_query(None).with_fragment(None)


def _settled(changed: str, response: ClientResponse) -> bool:
    try:
        return parsedate_to_datetime(response.headers[hdrs.DATE]) - parsedate_to_datetime(changed) >= SETTLED
    except (KeyError, ValueError, TypeError):  # no date, or one without a zone
        return False
