"""No hostile address is ever asked: not as it is, not behind a redirect, not behind a name that turns."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver

from consumers.recordings import download, guard
from consumers.recordings.addresses import Address, not_public
from consumers.recordings.failure import FetchFailed
from consumers.recordings.fetcher import Fetcher
from consumers.recordings.guard import Guard, Refused
from tests.unit.consumers.recordings.hostile_names import Names
from tests.unit.consumers.recordings.hostile_urls import ANYWHERE, FIRST_ONLY, HOSTILE, ODD_BUT_PUBLIC
from tests.unit.consumers.recordings.sound_server import WAV, SoundServer, redirect
from tests.unit.consumers.recordings.test_recording_guard import NOT_PUBLIC

NAME = "turning.example"


async def fetch(url: str, names: AbstractResolver, exempt: str | None = None) -> bytes:
    judge = Guard(private_hosts=[exempt] if exempt else [])
    async with Fetcher(judge, 2**31, resolver=names) as fetcher, fetcher.open(url) as chunks:
        return b"".join([chunk async for chunk in chunks])


def shown(urls: dict[str, str]) -> list[str]:
    return [ascii(url)[1:50] for url in urls]


@pytest.mark.parametrize(("url", "reason"), HOSTILE.items(), ids=shown(HOSTILE))
async def test_as_it_is(url: str, reason: str) -> None:
    names = Names(["127.0.0.1"])
    with pytest.raises(Refused, match=reason):
        await fetch(url, names)
    assert names.asked == []


@contextlib.asynccontextmanager
async def redirecting(to: str) -> AsyncIterator[str]:
    """A server's address. It writes the location as it is: a guest's server has no scruples."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + to.encode() + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(("url", "reason"), ANYWHERE.items(), ids=shown(ANYWHERE))
async def test_behind_a_redirect(url: str, reason: str) -> None:
    names = Names(["127.0.0.1"])
    async with redirecting(url) as address:
        # What is too long even for a header is no answer at all.
        refused = (Refused, FetchFailed) if len(url) > 8000 else Refused
        with pytest.raises(refused, match=f"{reason}|ClientResponseError"):
            await fetch(f"http://{address}/", names, exempt=address)
    assert names.asked == []


@pytest.mark.parametrize("url", FIRST_ONLY, ids=shown(FIRST_ONLY))
async def test_what_a_redirect_can_not_say_leads_nowhere_else(url: str) -> None:
    """A relative address stays with its server, and what breaks the header is no answer."""
    names = Names(["127.0.0.1"])
    async with redirecting(url) as address:
        with pytest.raises((Refused, FetchFailed)):
            await fetch(f"http://{address}/", names, exempt=address)
    assert set(names.asked) <= {"example.com"}


@pytest.mark.parametrize(("url", "host"), ODD_BUT_PUBLIC.items(), ids=shown(ODD_BUT_PUBLIC))
async def test_what_only_looks_hostile_goes_to_the_host_that_was_judged(url: str, host: str) -> None:
    names = Names()
    with pytest.raises(FetchFailed, match="could not be resolved"):
        await fetch(url, names)
    assert [asked.lower() for asked in names.asked] == [host]


@pytest.fixture
def public_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 stands for a public address: only there can a test have a server."""

    def judged(address: Address) -> str | None:
        return None if str(address) == "127.0.0.1" else not_public(address)

    monkeypatch.setattr(guard, "not_public", judged)


@pytest.mark.usefixtures("public_loopback")
@pytest.mark.parametrize(("address", "what"), [it for it in NOT_PUBLIC.items() if it[0] != "127.0.0.1"])
async def test_a_name_that_resolves_differently_behind_its_redirect(
    sounds: SoundServer, address: str, what: str
) -> None:
    url = f"http://{NAME}:{sounds.port}"
    sounds.paths |= {"/1": redirect(f"{url}/2"), "/2": WAV}
    assert await fetch(f"{url}/1", Names(["127.0.0.1"])) == WAV, "as long as it stays where it was"
    names = Names(["127.0.0.1"], [address])
    with pytest.raises(Refused, match=f"the host {NAME} has the address .*: {what}"):
        await fetch(f"{url}/1", names)
    assert names.asked == [NAME, NAME]
    assert sounds.asked() == ["/1", "/2", "/1"]


@pytest.mark.usefixtures("public_loopback")
async def test_a_name_that_resolves_differently_when_a_download_goes_on(
    sounds: SoundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.01)

    async def breaking(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"ETag": '"one"', "Content-Length": "100000"})
        await answer.prepare(request)
        await answer.write(WAV)
        await asyncio.sleep(0.02)
        assert request.transport is not None
        request.transport.close()
        return answer

    sounds.paths["/1"] = breaking
    with pytest.raises(Refused, match="link-local"):
        await fetch(f"http://{NAME}:{sounds.port}/1", Names(["127.0.0.1"], ["169.254.169.254"]))
    assert sounds.asked() == ["/1"]


@pytest.mark.usefixtures("public_loopback")
async def test_a_name_with_one_foot_in_our_network_is_not_asked(sounds: SoundServer) -> None:
    sounds.paths["/1"] = WAV
    with pytest.raises(Refused, match="private"):
        await fetch(f"http://{NAME}:{sounds.port}/1", Names(["127.0.0.1", "10.0.0.1"]))
    assert sounds.requests == []


@pytest.mark.usefixtures("public_loopback")
async def test_the_connection_goes_to_the_address_that_was_judged(sounds: SoundServer) -> None:
    """The name is resolved once for it: whatever it would say to a second question is not heard."""
    sounds.paths["/1"] = WAV
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    assert await fetch(f"http://{NAME}:{sounds.port}/1", names) == WAV
    assert names.asked == [NAME]
