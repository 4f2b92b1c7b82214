"""A builder that starts before its server lets it start when it has caught up, and never lets it wait for long."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from starlette.routing import Route

from consumers.builder_start import BuilderStart
from runtime.ops import Health, ops_app
from runtime.server import HttpServer


class Scene:
    """A builder's listener, asked as a probe asks it; its clock and its health are the test's."""

    def __init__(self) -> None:
        self.now = 100.0
        self.caught_up = False
        self.kafka = "reading"
        start = BuilderStart(self.health, lambda: self.now)
        self.server = HttpServer(
            ops_app(self.health, [Route("/health/started", start.answer)]), "127.0.0.1", 0, name="ops"
        )

    def health(self) -> Health:
        return Health(self.caught_up, {"kafka": self.kafka})

    async def ask(self, query: str = "?within=60") -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.server.port}/health/started{query}"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await scene.server.start()
    yield scene
    await scene.server.stop(0.1)


async def test_the_server_starts_as_soon_as_the_store_has_caught_up(scene: Scene) -> None:
    assert await scene.ask() == (503, {"started": False, "caught_up": False})
    scene.caught_up = True
    assert await scene.ask() == (200, {"started": True, "caught_up": True})


@pytest.mark.parametrize(("query", "seconds"), [("?within=60", 60), ("?within=5", 5), ("", 60)])
async def test_a_replay_is_waited_for_as_long_as_the_question_says(scene: Scene, query: str, seconds: float) -> None:
    scene.now += seconds - 0.1
    assert (await scene.ask(query))[0] == 503
    scene.now += 0.1
    assert await scene.ask(query) == (200, {"started": True, "caught_up": False})


async def test_without_kafka_the_server_starts_after_ten_seconds(scene: Scene) -> None:
    scene.kafka = "waiting"
    scene.now += 9.9
    assert (await scene.ask())[0] == 503
    scene.now += 0.1
    assert (await scene.ask())[0] == 200


async def test_a_question_without_a_number_is_refused(scene: Scene) -> None:
    assert (await scene.ask("?within=soon"))[0] == 400
