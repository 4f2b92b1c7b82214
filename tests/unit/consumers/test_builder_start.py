"""A builder that starts before its server lets it start when it has caught up, and never lets it wait for long."""

import json
from typing import Any

import pytest
from starlette.requests import Request

from consumers.builder_start import BuilderStart
from runtime.ops import Health


class Scene:
    def __init__(self) -> None:
        self.now = 100.0
        self.caught_up = False
        self.kafka = "reading"
        self.start = BuilderStart(lambda: Health(self.caught_up, {"kafka": self.kafka}), lambda: self.now)

    async def ask(self, query: str = "within=60") -> tuple[int, Any]:
        answer = await self.start(Request({"type": "http", "query_string": query.encode(), "headers": []}))
        return answer.status_code, json.loads(bytes(answer.body))


async def test_the_server_starts_as_soon_as_the_store_has_caught_up() -> None:
    scene = Scene()
    assert await scene.ask() == (503, {"started": False, "caught_up": False})
    scene.caught_up = True
    assert await scene.ask() == (200, {"started": True, "caught_up": True})


@pytest.mark.parametrize(("query", "seconds"), [("within=60", 60), ("within=5", 5), ("", 60)])
async def test_a_replay_is_waited_for_as_long_as_the_question_says(query: str, seconds: float) -> None:
    scene = Scene()
    scene.now += seconds - 0.1
    assert (await scene.ask(query))[0] == 503
    scene.now += 0.1
    assert await scene.ask(query) == (200, {"started": True, "caught_up": False})


async def test_without_kafka_the_server_starts_after_ten_seconds() -> None:
    scene = Scene()
    scene.kafka = "waiting"
    scene.now += 9.9
    assert (await scene.ask())[0] == 503
    scene.now += 0.1
    assert (await scene.ask())[0] == 200


async def test_a_question_without_a_number_is_refused() -> None:
    assert (await Scene().ask("within=soon"))[0] == 400
