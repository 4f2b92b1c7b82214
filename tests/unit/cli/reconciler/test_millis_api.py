"""The provider's API asked over real HTTP, when it answers as it should and when it does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from cli.reconciler.millis_api import ApiUnavailable, CallRefused, MillisApi, Stopped
from runtime.settings import SettingsError

Answer = Callable[[web.Request], web.Response]


class Provider:
    """Answers each request by the next of `answers`, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[web.Request] = []
        self.at: list[float] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        self.at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_get("/{path:.*}", provider.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield provider
    await runner.cleanup()


def json_of(content: Any, status: int = 200, **headers: str) -> Answer:
    return lambda _: web.json_response(content, status=status, headers=headers)


def api_of(provider: Provider, *, key: str | None = "private", rate: float = 1000.0) -> MillisApi:
    return MillisApi(provider.url + "/", key, rate, asyncio.Event())


async def listed(api: MillisApi) -> list[bytes]:
    return [call async for page in api.calls(1_700_000_000_500_000, 1_700_000_100_000_000) for call in page]


async def test_a_call_is_told_byte_for_byte(provider: Provider) -> None:
    provider.answers = [lambda _: web.Response(body=b'{"session_id": "-O a/b", "credit": 0.10}')]
    async with api_of(provider) as api:
        assert await api.call("-O a/b") == b'{"session_id": "-O a/b", "credit": 0.10}'
    assert provider.asked[0].raw_path == "/call-logs/-O%20a%2Fb"
    assert provider.asked[0].headers["authorization"] == "private"


async def test_a_call_that_the_provider_does_not_know_is_none(provider: Provider) -> None:
    provider.answers = [json_of({}, 404)]
    async with api_of(provider) as api:
        assert await api.call("s") is None


async def test_pages_are_read_to_the_last(provider: Provider) -> None:
    provider.answers = [
        json_of({"histories": [{"session_id": "a"}, {"session_id": "b"}], "next_cursor": 1_700_000_050.25}),
        json_of({"histories": [{"session_id": "c"}], "next_cursor": None}),
    ]
    async with api_of(provider) as api:
        assert len(await listed(api)) == 3
    first, second = (dict(request.query) for request in provider.asked)
    assert first == {"limit": "100", "start_time": "1700000000.500000", "end_time": "1700000100.000000"}
    assert second == first | {"start_after_ts": "1700000050.25"}


@pytest.mark.parametrize("end", [{"histories": None}, {"histories": []}, {}, {"next_cursor": ""}])
async def test_what_has_nothing_more_to_say_ends_the_list(provider: Provider, end: dict[str, Any]) -> None:
    provider.answers = [json_of(end)]
    async with api_of(provider) as api:
        assert await listed(api) == []
    assert len(provider.asked) == 1


async def test_a_cursor_that_stands_still_is_not_asked_for_ever(provider: Provider) -> None:
    provider.answers = [json_of({"histories": [{"session_id": "a"}], "next_cursor": 5.0})]
    async with api_of(provider) as api:
        assert len(await listed(api)) == 2
    assert len(provider.asked) == 2


async def test_trouble_is_waited_for(provider: Provider) -> None:
    provider.answers = [json_of({}, 500), json_of({"session_id": "s"})]
    async with api_of(provider) as api:
        assert await api.call("s") == b'{"session_id": "s"}'


async def test_who_is_told_to_wait_waits(provider: Provider) -> None:
    provider.answers = [json_of({}, 429, **{"retry-after": "2"}), json_of({"session_id": "s"})]
    async with api_of(provider) as api:
        assert await api.call("s") is not None
    assert provider.at[1] - provider.at[0] >= 1.9


async def test_requests_are_bounded_in_rate(provider: Provider) -> None:
    provider.answers = [json_of({"session_id": "s"})]
    async with api_of(provider, rate=20) as api:
        for _ in range(6):
            await api.call("s")
    assert provider.at[5] - provider.at[0] >= 0.24


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_a_wrong_setting(provider: Provider, status: int) -> None:
    provider.answers = [json_of({}, status)]
    async with api_of(provider) as api:
        with pytest.raises(SettingsError, match=r"RINGLOG_MILLIS_API_KEY is wrong: .* refuses it"):
            await api.call("s")
    assert len(provider.asked) == 1


async def test_without_a_key_nobody_is_asked(provider: Provider) -> None:
    with pytest.raises(SettingsError, match="RINGLOG_MILLIS_API_KEY is not set"):
        api_of(provider, key=None)


async def test_a_refusal_that_would_come_again_is_told_at_once(provider: Provider) -> None:
    provider.answers = [json_of({}, 422)]
    async with api_of(provider) as api:
        with pytest.raises(CallRefused, match="status 422"):
            await api.call("s")
    assert len(provider.asked) == 1


async def test_a_redirect_is_not_followed_with_the_key(provider: Provider) -> None:
    provider.answers = [lambda _: web.Response(status=302, headers={"location": "/elsewhere"})]
    async with api_of(provider) as api:
        with pytest.raises(CallRefused, match="status 302"):
            await api.call("s")
    assert [request.path for request in provider.asked] == ["/call-logs/s"]


async def test_a_list_that_is_none_is_told(provider: Provider) -> None:
    provider.answers = [lambda _: web.Response(body=b"<html>")]
    async with api_of(provider) as api:
        with pytest.raises(ApiUnavailable, match="list of calls can't be read"):
            await listed(api)


@pytest.mark.parametrize(
    ("cursor", "sent"),
    [("1732600000123456789", "1732600000123456789"), ("1732600000.10", "1732600000.10"), ('"a b"', "a b")],
)
async def test_a_cursor_is_sent_back_as_it_came(provider: Provider, cursor: str, sent: str) -> None:
    page = f'{{"histories": [{{}}], "next_cursor": {cursor}}}'
    provider.answers = [lambda _: web.Response(text=page), json_of({"histories": []})]
    async with api_of(provider) as api:
        await listed(api)
    assert provider.asked[1].query["start_after_ts"] == sent


async def test_an_empty_page_with_a_cursor_is_not_the_last(provider: Provider) -> None:
    provider.answers = [json_of({"histories": [], "next_cursor": 5}), json_of({"histories": [{"session_id": "a"}]})]
    async with api_of(provider) as api:
        assert len(await listed(api)) == 1


async def test_half_an_emoji_in_one_call_does_not_cost_its_page(provider: Provider) -> None:
    page = r'{"histories": [{"session_id": "a", "chat": "cut \ud83d"}, {"session_id": "b"}]}'
    provider.answers = [lambda _: web.Response(text=page)]
    async with api_of(provider) as api:
        assert len(await listed(api)) == 2


async def test_a_list_that_is_refused_is_told(provider: Provider) -> None:
    provider.answers = [json_of({}, 400)]
    async with api_of(provider) as api:
        with pytest.raises(ApiUnavailable, match="list of calls can't be had"):
            await listed(api)


async def test_who_is_stopped_does_not_go_on(provider: Provider) -> None:
    provider.answers = [json_of({"histories": [{"session_id": "a"}], "next_cursor": 5.0})]
    stop = asyncio.Event()
    async with MillisApi(provider.url, "k", 1000.0, stop) as api:
        with pytest.raises(Stopped):
            async for _ in api.calls(0, 1):
                stop.set()
        with pytest.raises(Stopped):
            await api.call("s")
    assert len(provider.asked) == 1
