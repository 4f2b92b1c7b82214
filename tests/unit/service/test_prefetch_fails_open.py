"""A prefetch whose answering fails: the caller gets the empty answer, whatever else goes wrong after it."""

from typing import Any

import pytest

from runtime.clock import system_clock
from runtime.settings import Settings, load_settings
from schemas.answered import FAILED_OPEN
from schemas.caller import CallerIdentity
from schemas.event import decode_envelope
from schemas.topics import CALLS_REJECTED
from service.answer import EMPTY
from service.auth import Keys
from service.journal import Entry, Journal
from service.prefetch import PrefetchWebhook
from service.prompts import Prompts
from service.quarantine import Quarantine
from state.reader import ProfileReader


class BrokenReader(ProfileReader):
    """Breaks the promise of a reader, which never raises."""

    def __init__(self) -> None:
        pass

    def look_up(self, caller: bytes, hash_: int) -> Any:
        raise ZeroDivisionError


class BrokenIdentity(CallerIdentity):
    def identify(self, *_: Any) -> Any:
        raise ZeroDivisionError


class Kept(Journal):
    """Keeps what is published."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, (CALLS_REJECTED,))
        self.entries: list[Entry] = []

    def publish_soon(self, entry: Entry) -> None:
        self.entries.append(entry)


class BrokenQuarantine(Quarantine):
    def keep_soon(self, *said: Any, **also: Any) -> None:
        raise ZeroDivisionError


SETTINGS: Settings = load_settings(
    webhook_keys={"a": "s" * 20}, identity_key="i" * 32, kafka_bootstrap_servers="127.0.0.1:1"
)


async def asked(webhook: PrefetchWebhook) -> tuple[int, bytes]:
    """Status and body of the answer; what is raised after it is swallowed."""
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
        assert sent  # it may come after the answer, never in its place
    return sent[0]["status"], sent[1]["body"]


def webhook(
    journal: Journal, reader: ProfileReader, identity: CallerIdentity, quarantine: Quarantine
) -> PrefetchWebhook:
    keys = Keys("authorization", SETTINGS.webhook_keys.values())
    return PrefetchWebhook(keys, identity, reader, Prompts(None), journal, quarantine, system_clock)


@pytest.mark.parametrize("kind", [Quarantine, BrokenQuarantine])
async def test_the_caller_gets_the_empty_answer(kind: type[Quarantine]) -> None:
    journal = Kept(SETTINGS)
    broken = webhook(journal, BrokenReader(), BrokenIdentity(b"k" * 32), kind(journal, system_clock))
    assert await asked(broken) == (200, EMPTY)
    assert [entry.topic for entry in journal.entries] == ([CALLS_REJECTED] if kind is Quarantine else [])


async def test_a_failure_while_answering_is_told_by_the_event() -> None:
    journal = Kept(SETTINGS)
    broken = webhook(journal, BrokenReader(), SETTINGS.identity(), BrokenQuarantine(journal, system_clock))
    assert await asked(broken) == (200, EMPTY)
    (entry,) = journal.entries
    answered = decode_envelope(entry.value or b"").answered
    assert answered is not None and answered.outcome == FAILED_OPEN
    assert (answered.digest, answered.template, answered.ended_offset) == (None, None, None)
