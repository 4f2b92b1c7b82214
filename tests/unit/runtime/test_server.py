"""One HTTP listener among others in a process."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from starlette.types import Receive, Scope, Send

from runtime.server import MAX_HEAD_BYTES, HttpServer
from runtime.settings import SettingsError


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers after as many seconds as the path says."""
    await asyncio.sleep(float(scope["path"].strip("/") or 0))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    server = HttpServer(app, "127.0.0.1", 0, name="test")
    await server.start()
    yield server
    await server.stop(0.1)


async def test_port_0_takes_a_free_one_and_it_accepts_at_once(server: HttpServer) -> None:
    assert server.port > 0
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{server.port}/") as response:
        assert (response.status, await response.text()) == (200, "ok")
        assert "server" not in response.headers


async def test_a_port_that_is_taken_is_a_wrong_setting(server: HttpServer) -> None:
    second = HttpServer(app, "127.0.0.1", server.port, name="second", port_setting="RINGLOG_OPS_PORT")
    with pytest.raises(SettingsError, match=f"^RINGLOG_OPS_PORT: 127.0.0.1:{server.port} can't be listened on"):
        await second.start()
    await second.stop(1)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a" * 300])
async def test_a_host_that_is_not_ours_is_a_wrong_setting(host: str) -> None:
    with pytest.raises(SettingsError, match=r"^RINGLOG_HOST is wrong: "):
        await HttpServer(app, host, 0, name="test").start()


async def test_signals_are_left_to_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    servers = [HttpServer(app, "127.0.0.1", 0, name=name) for name in ("one", "two")]
    for server in servers:
        await server.start()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    for server in servers:
        await server.stop(1)


async def test_a_request_in_flight_is_finished_and_idle_connections_are_closed(server: HttpServer) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{server.port}/") as response:  # now a connection that is kept alive
            await response.read()
        idle_reader, idle = await asyncio.open_connection("127.0.0.1", server.port)  # it never says a word
        running = asyncio.create_task(http.get(f"http://127.0.0.1:{server.port}/0.5"))
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        await server.stop(5)
        assert time.perf_counter() - started < 2
        assert await (await running).text() == "ok"
        assert await idle_reader.read() == b""
        idle.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


async def test_a_request_that_takes_too_long_is_given_up(server: HttpServer) -> None:
    async with aiohttp.ClientSession() as http:
        running = asyncio.create_task(http.get(f"http://127.0.0.1:{server.port}/60"))
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        await server.stop(1)
        assert time.perf_counter() - started < 3
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_head_without_an_end_has_the_same_limit(server: HttpServer) -> None:
    for sent in (b"GET /" + b"x" * MAX_HEAD_BYTES, b"GET / HTTP/1.1\r\na: " + b"x" * MAX_HEAD_BYTES):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        async with asyncio.timeout(5):
            assert (await reader.readline()) == b"HTTP/1.1 400 Bad Request\r\n"
        writer.close()


async def test_a_small_head_in_two_parts_before_a_large_body_is_none_too_large(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    length = 3 * MAX_HEAD_BYTES
    writer.write(b"POST / HTTP/1.1\r\nhost: ringlog\r\nx: " + b"x" * 10_000)
    await asyncio.sleep(0.1)
    writer.write(b"\r\ncontent-length: %d\r\n\r\n" % length + b"x" * length)
    async with asyncio.timeout(5):
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_a_head_has_a_limit(server: HttpServer) -> None:
    for sent in (
        b"GET /" + b"x" * MAX_HEAD_BYTES,
        b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * MAX_HEAD_BYTES + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: %s\r\n" % (n, b"x" * 1000) for n in range(300)),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent + b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.readline()) == b"HTTP/1.1 400 Bad Request\r\n"
        writer.close()
