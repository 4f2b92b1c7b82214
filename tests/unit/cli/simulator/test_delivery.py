"""Delivery to a real HTTP server that behaves as a ringlog in trouble would."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from cli.simulator.call import Call
from cli.simulator.delivery import Delivery, DeliveryError, Target
from cli.simulator.plan import Plan
from cli.simulator.tally import Tally

EMPTY = {"metadata": {}, "extra_prompt": ""}
Answers = Callable[[web.Request, bytes], int]


class Peer:
    """What came, in its order."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.came: list[bytes] = []

    async def answer(self, request: web.Request) -> web.Response:
        content = await request.read() if request.method == "POST" else request.rel_url.raw_query_string.encode()
        status = self.answers(request, content)
        if status == 200:
            self.came.append(content)
        return web.json_response(EMPTY, status=status)


@asynccontextmanager
async def listening(answers: Answers) -> AsyncIterator[tuple[str, Peer]]:
    peer = Peer(answers)
    app = web.Application(client_max_size=2**24)
    app.router.add_get("/webhooks/prefetch", peer.answer)
    app.router.add_post("/webhooks/end-of-call", peer.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", peer
    finally:
        await runner.cleanup()


async def delivered(url: str, calls: list[Call], key: str = "k", patience_s: float = 20.0) -> Tally:
    tally, target = Tally(), Target(url, key)
    async with target.open() as http:
        await Delivery(target, http, tally, patience_s).all(calls, 0, lambda: None)
    return tally


def broken_bodies(plan: Plan) -> set[bytes]:
    return {step.content for call in plan for step in call.steps if step.broken}


def refuses_broken(plan: Plan) -> Answers:
    broken = broken_bodies(plan)
    return lambda _request, content: 400 if content in broken else 200


async def test_everything_is_delivered_as_often_as_the_plan_says(plan: Plan) -> None:
    async with listening(refuses_broken(plan)) as (url, peer):
        tally = await delivered(url, list(plan))
    wanted = Counter[bytes]()
    for call in plan:
        for step in call.steps:
            if not step.broken:
                wanted[step.content] += step.copies
    assert Counter(peer.came) == wanted
    assert (tally.calls, tally.rejected, tally.failed, tally.retries) == (plan.wish.calls, plan.broken, 0, 0)
    latency = tally.latency("end-of-call")
    assert latency is not None and 0 < latency.p50_ms <= latency.p99_ms <= latency.max_ms


async def test_a_revision_never_overtakes_the_body_that_it_corrects(plan: Plan) -> None:
    refused: set[bytes] = set()

    def once_each(_request: web.Request, content: bytes) -> int:
        if content in refused:
            return 200
        refused.add(content)
        return 503

    revised = [call for call in plan if call.shape == "cost_known_later"]
    async with listening(once_each) as (url, peer):
        tally = await delivered(url, revised)
    assert revised and tally.retries > 0 and tally.failed == 0
    for call in revised:
        first, second, *_ = [step.content for step in call.steps if step.webhook == "end-of-call"]
        assert peer.came.index(first) < peer.came.index(second)


async def test_late_deliveries_come_after_all_others(plan: Plan) -> None:
    async with listening(refuses_broken(plan)) as (url, peer):
        await delivered(url, list(plan))
    late = [step.content for call in plan for step in call.steps if step.late]
    assert late and set(peer.came[-len(late) :]) == set(late)


async def test_what_is_refused_for_too_long_is_told(plan: Plan) -> None:
    async with listening(lambda _request, _content: 503) as (url, _peer):
        tally = await delivered(url, [plan.at(0)], patience_s=0.3)
    assert tally.undelivered == {plan.at(0).session_id} and "status 503" in tally.failures[0]


async def test_a_broken_body_that_is_accepted_is_a_failure(plan: Plan) -> None:
    broken = [call for call in plan if call.steps[0].broken]
    async with listening(lambda _request, _content: 200) as (url, _peer):
        tally = await delivered(url, broken)
    assert tally.failed == len(broken) > 0 and "not 400" in tally.failures[0]


async def test_a_body_that_is_refused_for_good_is_told_and_not_sent_again(plan: Plan) -> None:
    async with listening(lambda request, _content: 413 if request.method == "POST" else 200) as (url, _peer):
        tally = await delivered(url, [plan.at(0)])
    assert (tally.failed, tally.retries) == (1, 0) and "413" in tally.failures[0]


async def test_a_refused_key_ends_the_delivery_with_one_sentence(plan: Plan) -> None:
    async with listening(lambda _request, _content: 401) as (url, _peer):
        with pytest.raises(DeliveryError, match="refuses the key"):
            await delivered(url, list(plan))


async def test_the_key_goes_in_the_header_that_the_ringlog_wants(plan: Plan) -> None:
    async with listening(lambda request, _content: 200 if request.headers.get("x-key") == "Bearer k" else 401) as peer:
        target = Target(peer[0], "k", "x-key")
        async with target.open() as http:
            assert (await target.send(http, next(iter(plan)).steps[0]))[0] == 200


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://x:99999"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(DeliveryError, match="is no URL of a ringlog"):
        Target(url, "k")
