"""A prefetch whose answering fails: the caller gets the empty answer, whatever else goes wrong after it."""

from typing import Any

import pytest

from runtime.clock import system_clock
from runtime.settings import Settings, load_settings
from schemas.topics import CALLS_REJECTED
from service.answer import EMPTY
from service.auth import Keys
from service.journal import Journal
from service.prefetch import PrefetchWebhook
from service.prompts import Prompts
from service.quarantine import Quarantine


class BrokenReader:
    """Breaks the promise of a reader, which never raises."""

    def get(self, caller_id: str) -> Any:
        raise ZeroDivisionError


class BrokenQuarantine(Quarantine):
    def keep_soon(self, *said: Any, **also: Any) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", [Quarantine, BrokenQuarantine])
async def test_the_caller_gets_the_empty_answer(kind: type[Quarantine]) -> None:
    settings: Settings = load_settings(
        webhook_keys={"a": "s" * 20}, identity_key="i" * 32, kafka_bootstrap_servers="127.0.0.1:1"
    )
    journal = Journal(settings, (CALLS_REJECTED,))
    webhook = PrefetchWebhook(
        Keys("authorization", settings.webhook_keys.values()),
        settings.identity(),
        BrokenReader(),  # type: ignore[arg-type]
        Prompts(None),
        journal,
        kind(journal, system_clock),
        system_clock,
    )
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("a prefetch has no body")

    scope = {
        "type": "http",
        "headers": [(b"authorization", b"Bearer " + b"s" * 20)],
        "query_string": b"session_id=s1&from=%2B15551234567",
    }
    try:
        await webhook(scope, receive, send)
    except ZeroDivisionError:
        assert kind is BrokenQuarantine  # it may come after the answer, never in its place
    assert (sent[0]["status"], sent[1]["body"]) == (200, EMPTY)
