"""Who called, and in which direction, as both webhooks write it down: by each reading of the provider's pages."""

from typing import Any

import msgspec
import pytest

from runtime.settings import Settings
from schemas.caller import Caller
from schemas.event import Envelope, decode_envelope
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH
from tests.edge import NUMBER, call, eventually, records_of, running

AGENT = "+15557654321"


async def both_events(settings: Settings, from_and_to: dict[str, str]) -> list[Envelope]:
    """Of a call that has them: what lies in `calls.prefetch`, and what lies in `calls.ended`."""
    async with running(settings) as edge:
        assert (await edge.prefetch({"session_id": "s-1", **from_and_to})).status == 200
        assert (await edge.end(call(voip={"provider": "twilio", **from_and_to}))).status == 200
        records = await eventually(lambda: records_of(settings, CALLS_PREFETCH))
        records += await records_of(settings, CALLS_ENDED)
    assert [record.key for record in records] == [settings.identity().id_of_number(NUMBER).encode()] * 2
    return [decode_envelope(record.value or b"") for record in records]


@pytest.mark.parametrize("own", ["+1 (555) 765-4321", "+1555765*"])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_both_webhooks_say_who_called_in_which_direction_and_why(
    settings: Settings, topics: object, own: str, direction: str
) -> None:
    numbers = {"from": NUMBER, "to": AGENT} if direction == "inbound" else {"from": AGENT, "to": NUMBER}
    ours = settings.model_copy(update={"own_numbers": [own]})
    expected: Any = (Caller(ours.identity().id_of_number(NUMBER), "phone", NUMBER), direction, "own-number")
    found = [(it.caller, it.direction, it.decided_by) for it in await both_events(ours, numbers)]
    assert found == [expected, expected]


async def test_without_own_numbers_both_say_that_from_was_taken(settings: Settings, topics: object) -> None:
    found = await both_events(settings, {"from": NUMBER, "to": AGENT})
    assert [(it.direction, it.decided_by) for it in found] == [("unknown", "from-by-default")] * 2


async def test_a_web_call_says_that_it_has_no_numbers(settings: Settings, topics: object) -> None:
    async with running(settings) as edge:
        assert (await edge.end(msgspec.json.encode({"session_id": "s-1", "voip": {}}))).status == 200
        (record,) = await records_of(settings, CALLS_ENDED)
    envelope = decode_envelope(record.value or b"")
    assert (envelope.caller.kind, envelope.direction, envelope.decided_by) == ("session", "web", "no-numbers")
