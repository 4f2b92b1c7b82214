"""What was said of a caller, and what came of their calls, is in the next answer: edge, topics, builder, store."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.settings import Settings, SettingsError
from runtime.topics import apply
from schemas.topics import CALLS_ENDED
from tests.edge import EMPTY, NUMBER, OPS_BEARER, Edge, eventually, records_of, running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def builder(settings: Settings, topics: object) -> Iterator["subprocess.Popen[bytes]"]:
    """The profile builder, a process of its own as always: LMDB wants its writer and a reader in two."""
    environment = {
        **os.environ,
        "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "RINGLOG_TOPIC_PREFIX": settings.topic_prefix,
        "RINGLOG_DATA_DIR": str(settings.data_dir),
        "RINGLOG_IDENTITY_KEY": "identity-key-of-the-tests",
        "RINGLOG_HOST": "127.0.0.1",
        "RINGLOG_OPS_PORT": "0",
    }
    process = subprocess.Popen([sys.executable, "-m", "cli.main", "consume", "profiles"], env=environment, cwd=ROOT)
    yield process
    process.send_signal(signal.SIGTERM)
    process.wait(20)


async def answer_when(edge: Edge, key: str, number: str = NUMBER, within_s: float = 40.0) -> dict[str, Any]:
    """The answer, once its metadata holds `key`."""
    async with asyncio.timeout(within_s):
        while True:
            response = await edge.prefetch({"session_id": "s-9", "agent_id": "-Om", "from": number})
            answer: dict[str, Any] = await response.json()
            if key in answer["metadata"]:
                return answer
            await asyncio.sleep(0.1)


async def test_facts_and_calls_are_in_the_next_answer(settings: Settings, builder: object, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "default.j2").write_text("Someone else's agent.")
    (prompts / "-Om.j2").write_text(
        "{{ facts.name }} called {{ calls }} times, last {{ last_status }}.{{ nothing.at.all }}"
    )
    async with running(settings.model_copy(update={"prompts_dir": prompts})) as edge:
        facts = '{"name": "Ann", "tier": {"level": 2}}'
        response = await edge.ops("PUT", f"/callers/{NUMBER}/facts", headers=OPS_BEARER, data=facts)
        assert response.status == 200
        await answer_when(edge, "name")
        call = {
            "session_id": "s-1",
            "agent_id": "-Om",
            "ts": 1729840680.886249,
            "call_status": "user-ended",
            "voip": {"from": NUMBER, "to": "+15557654321"},
            "metadata": {"city": "Rome", "name": "overridden by the fact"},
        }
        for _ in range(2):  # a repeated delivery counts once
            assert (await edge.end(json.dumps(call))).status == 200
        assert await answer_when(edge, "city") == {
            "metadata": {
                "city": "Rome",
                "name": "Ann",
                "tier": {"level": 2},
                "ringlog_facts": ["name", "tier"],
                "ringlog_calls": 1,
                "ringlog_last_call_at": "2024-10-25T07:18:00.886249Z",
                "ringlog_last_status": "user-ended",
                "ringlog_last_agent": "-Om",
            },
            "extra_prompt": "Ann called 1 times, last user-ended.",
        }
        shown = await edge.ops("GET", f"/callers/{NUMBER}/facts", headers=OPS_BEARER)
        assert (await shown.json())["facts"] == {"name": "Ann", "tier": {"level": 2}}
        assert (await edge.ops("GET", "/health/ready")).status == 200

        stranger = await edge.prefetch({"session_id": "s-2", "agent_id": "-Om", "from": "+15550000000"})
        assert await stranger.json() == EMPTY

        many = json.dumps({f"f{number}": number for number in range(199)})
        refused = await edge.ops("PUT", f"/callers/{NUMBER}/facts", headers=OPS_BEARER, data=many)
        assert (refused.status, (await refused.json())["error"]) == (
            400,
            "with these the caller would have more than 200 facts",
        )
        deleted = await edge.ops("DELETE", f"/callers/{NUMBER}/facts", headers=OPS_BEARER)
        assert await deleted.json() == {"deleted": 2}


async def test_a_topic_that_would_forget_ends_the_service_with_a_sentence(settings: Settings) -> None:
    await apply(settings, topics=[msgspec.structs.replace(CALLS_ENDED, retention_ms=1000)])
    with pytest.raises(SettingsError, match=r"calls\.ended"):
        async with running(settings):
            pass


async def test_topics_that_are_made_later_are_waited_for(settings: Settings) -> None:
    async with running(settings, connected=False) as edge:
        await asyncio.sleep(1)
        ready = await edge.ops("GET", "/health/ready")
        assert "ringlog topics apply" in (await ready.json())["kafka"]
        assert (await edge.end(b'{"session_id": "s"}')).status == 200
        created = (await apply(settings)).created
        assert settings.topic_prefix + "calls.ended" in created  # nobody made it by asking for it
        await edge.kafka_is(True)
        (found,) = await eventually(lambda: records_of(settings, CALLS_ENDED))
        assert found.header("ce_subject") == "s"
