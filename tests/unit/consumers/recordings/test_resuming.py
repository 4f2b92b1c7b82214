"""What broke off goes on where it ended, if that is certain to be the same recording; else it begins anew."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from consumers.recordings import download
from consumers.recordings.failure import FetchFailed
from consumers.recordings.fetcher import Fetcher
from consumers.recordings.guard import Guard, Refused
from tests.unit.consumers.recordings.books import Books
from tests.unit.consumers.recordings.sound_server import WAV, SoundServer, redirect, serving
from tests.unit.consumers.recordings.test_downloader import OBJECT, called

SOUND = WAV + bytes(range(255, -1, -1)) * 4096  # a megabyte: more than one read of a socket
OTHER = bytes(reversed(SOUND))
ETAG = {"ETag": '"one"'}
OLD = {"Last-Modified": "Tue, 06 Jan 2026 10:00:00 GMT", "Date": "Tue, 06 Jan 2026 10:01:00 GMT"}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.01)


class Breaking:
    """Ends each connection after so many bytes, the first ones announced or not; then does as it is told."""

    def __init__(
        self, *ends: int, headers: dict[str, str] = ETAG, announced: bool = True, then: Callable[..., Any] | None = None
    ) -> None:
        self._ends = list(ends)
        self._headers = headers
        self._announced = announced
        self._then = then or rest
        self._begun = False

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if self._begun:
            answer = await self._then(request, self._headers)
        else:
            answer = web.StreamResponse(headers=self._headers)
            answer.body_ = SOUND  # type: ignore[attr-defined]
            if self._announced:
                answer.content_length = len(SOUND)
        self._begun = True
        if isinstance(answer, web.Response):
            return answer
        await answer.prepare(request)
        end = self._ends.pop(0) if self._ends else None
        await answer.write(answer.body_[:end])
        if end is not None:
            await asyncio.sleep(0.02)
            assert request.transport is not None
            request.transport.close()
        return answer


def part(start: int, headers: dict[str, str], sound: bytes = SOUND, said: str | None = None) -> web.StreamResponse:
    range_ = said or f"bytes {start}-{len(sound) - 1}/{len(sound)}"
    answer = web.StreamResponse(status=206, headers={**headers, "Content-Range": range_})
    answer.content_length = len(sound) - start
    answer.body_ = sound[start:]  # type: ignore[attr-defined]
    return answer


async def rest(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    """As a proper server does."""
    assert request.headers["If-Range"] in headers.values()
    return part(start_of(request), headers)


def start_of(request: web.Request) -> int:
    unit, _, range_ = request.headers["Range"].partition("=")
    assert unit == "bytes" and range_.endswith("-")
    return int(range_[:-1])


async def fetched(sounds: SoundServer, path: str = "/1", max_bytes: int = 2**31) -> bytes:
    async with (
        Fetcher(Guard(private_hosts=[sounds.address]), max_bytes) as fetcher,
        fetcher.open(sounds.url(path)) as it,
    ):
        return b"".join([chunk async for chunk in it])


@pytest.mark.parametrize("headers", [ETAG, OLD], ids=["etag", "last-modified"])
@pytest.mark.parametrize("announced", [True, False])
async def test_what_broke_off_goes_on_until_it_is_whole(
    sounds: SoundServer, headers: dict[str, str], announced: bool
) -> None:
    sounds.paths["/1"] = Breaking(300_000, 200_000, 1, 100_000, headers=headers, announced=announced)
    assert await fetched(sounds) == SOUND
    starts = [start_of(request) for request in sounds.requests[1:]]
    assert starts == sorted(starts) and len(starts) >= 4


async def test_it_is_one_object_with_one_hash_and_no_attempt_is_counted(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = Breaking(300_000, 400_000)
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        row = await books.until("s1", status="stored")
    assert (row["bytes"], row["sha256"]) == (len(SOUND), hashlib.sha256(SOUND).hexdigest())
    assert books.files() == {OBJECT: SOUND}
    assert len(sounds.requests) == 3


async def changed(_: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    return web.Response(body=OTHER, headers={"ETag": '"two"'})


async def no_ranges(_: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    return web.Response(body=SOUND, headers=headers)


async def other_version(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    """A server that doesn't know `If-Range`."""
    return part(start_of(request), {"ETag": '"two"'}, OTHER)


async def nameless(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    return part(start_of(request), {})


async def elsewhere(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    return part(start_of(request) + 1, headers)


async def without_range(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    return web.Response(status=206, body=SOUND[start_of(request) :], headers=headers)


async def longer(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    return part(start_of(request), headers, SOUND + b"more")


async def nonsense(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    start = start_of(request)
    return part(start, headers, said=f"bytes {start}-{len(SOUND)}/{len(SOUND)}")


async def compressed(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    return part(start_of(request), {**headers, "Content-Encoding": "gzip"})


async def gone(_: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    return web.Response(status=404)


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (changed, "can't go on or the recording has changed"),
        (no_ranges, "can't go on or the recording has changed"),
        (other_version, "not of the same recording"),
        (nameless, "not of the same recording"),
        (elsewhere, "not what was asked for"),
        (without_range, "not what was asked for"),
        (longer, "of another length"),
        (nonsense, "of another length"),
        (compressed, "compressed its answer unasked"),
        (gone, "answered 404"),
    ],
)
async def test_what_may_not_be_the_same_recording_is_never_added_to_it(
    books: Books, sounds: SoundServer, then: Any, reason: str
) -> None:
    sounds.paths["/1"] = Breaking(300_000, then=then)
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        row = await books.until("s1", attempts=1, leased_until=0)
        assert reason in str(row["error"])
        assert books.files() == {}
        sounds.paths["/1"] = OTHER
        books.pass_time(60)
        await books.until("s1", status="stored")
    assert list(books.files().values()) == [OTHER]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": 'W/"one"'},
        {"ETag": "one"},
        {"ETag": '""'},
        {**OLD, "Date": "Tue, 06 Jan 2026 10:00:59 GMT"},
        {**OLD, "Last-Modified": "yesterday"},
        {**OLD, "Last-Modified": "Tue, 06 Jan 2026 10:00:00"},
    ],
)
async def test_without_a_strong_name_of_the_version_nothing_more_is_asked(
    sounds: SoundServer, headers: dict[str, str]
) -> None:
    sounds.paths["/1"] = Breaking(300_000, headers=headers)
    with pytest.raises(FetchFailed, match=r"broke off|were announced"):
        await fetched(sounds)
    assert len(sounds.requests) == 1


async def test_a_server_that_has_a_bad_moment_is_asked_again(sounds: SoundServer) -> None:
    answers = iter([503, 500, None])

    async def ill(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        status = next(answers)
        return web.Response(status=status) if status else await rest(request, headers)

    sounds.paths["/1"] = Breaking(300_000, then=ill)
    assert await fetched(sounds) == SOUND
    assert len(sounds.requests) == 4


async def test_a_server_that_always_breaks_off_is_given_up(
    sounds: SoundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_CONTINUATIONS", 3)
    sounds.paths["/1"] = Breaking(*[1000] * 10)
    with pytest.raises(FetchFailed, match="broke off"):
        await fetched(sounds)
    assert len(sounds.requests) == 4


async def test_a_length_that_is_told_only_with_the_rest_is_bounded_too(sounds: SoundServer) -> None:
    sounds.paths["/1"] = Breaking(300_000, announced=False)
    with pytest.raises(Refused, match="larger than RINGLOG_RECORDING_MAX_BYTES"):
        await fetched(sounds, max_bytes=len(SOUND) - 1)


async def test_to_go_on_is_judged_like_the_beginning(sounds: SoundServer) -> None:
    """The address redirects: to the sound at first, into our own network when it is asked for the rest."""
    async with serving() as inside:
        inside.paths["/secret"] = SOUND
        ways = iter([redirect("/sound"), redirect(inside.url("/secret"))])

        async def turning(request: web.Request) -> web.StreamResponse:
            return await next(ways)(request)

        sounds.paths |= {"/1": turning, "/sound": Breaking(300_000)}
        with pytest.raises(Refused, match="loopback"):
            await fetched(sounds)
        assert inside.requests == []


async def test_the_rest_from_another_place_is_not_the_same_recording(sounds: SoundServer) -> None:
    """Two servers may call different sounds `"1"`."""
    ways = iter([redirect("/sound?signature=1"), redirect("/another?signature=2")])

    async def turning(request: web.Request) -> web.StreamResponse:
        return await next(ways)(request)

    async def same_name(request: web.Request) -> web.StreamResponse:
        answer = part(start_of(request), ETAG, OTHER)
        await answer.prepare(request)
        await answer.write(OTHER[start_of(request) :])
        return answer

    sounds.paths |= {"/1": turning, "/sound": Breaking(300_000), "/another": same_name}
    with pytest.raises(FetchFailed, match="not of the same recording"):
        await fetched(sounds)


async def test_another_signature_is_still_the_same_place(sounds: SoundServer) -> None:
    ways = iter([redirect("/sound?signature=1"), redirect("/sound?signature=2")])

    async def turning(request: web.Request) -> web.StreamResponse:
        return await next(ways)(request)

    sounds.paths |= {"/1": turning, "/sound": Breaking(300_000)}
    assert await fetched(sounds) == SOUND
