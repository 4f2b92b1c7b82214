"""A call while it is being made up: the request beside what the books must say of it, changed together."""

import json
from random import Random
from typing import Any, Literal

import msgspec

from cli.simulator import conversation
from cli.simulator.call import CallBooks, Costs
from cli.simulator.caller import OUR_NUMBERS, WEB, Caller
from cli.simulator.credit import draw_micros, literal
from cli.simulator.dice import identifier
from cli.simulator.sound import sound_of

Order = Literal["usual", "ended first", "prefetch late", "no prefetch", "never ended"]

# A Monday in 2026, nine o'clock UTC: where the calls of every plan begin. Seconds and milliseconds are drawn.
_BASE_S = 1_767_603_600

AGENTS = (
    "-OmNNf485Na8Bw82RSfz",
    "-OaGent0FrontDesk001",
    "--twice-dashed",
    "agent001",
    "agent.eu/night shift",
    "Ägent-7",
)

# The eight of the provider's webhook page.
STATUSES = (
    "user-ended",
    "api-ended",
    "voicemail-message",
    "voicemail-hangup",
    "agent-ended",
    "timeout",
    "error",
    "chat_completion",
)
_SERVICES = (
    ("stt", "millis"),
    ("tts", "elevenlabs"),
    ("llm", "openai"),
    ("telephony", "twilio"),
    ("platform", "millis"),
)
_TIERS = ("gold", "silver", "premium", "new")

# Credentials of other people that must not get past the edge. Whoever looks for a leak looks for this word.
SECRET_MARK = "simulated-secret"  # noqa: S105 - nobody's


class Story(msgspec.Struct):
    """`query` is the prefetch's; `plus_as_space`: its `+` is sent as it is, and so arrives as a space."""

    dice: Random
    body: dict[str, Any]
    query: list[tuple[str, str]]
    books: CallBooks
    sounds_url: str
    order: Order = "usual"
    plus_as_space: bool = False

    def bill(self, costs: Costs) -> None:
        """The body and the books have these costs."""
        self.books.costs = costs
        self.body["cost_breakdown"] = [
            {"type": type_, "provider": provider, "credit": msgspec.Raw(literal(micros, self.dice))}
            for (type_, provider), micros in costs.items()
        ]

    def call_from(self, caller: Caller) -> None:
        """Query, body and books have this caller; a web call has no numbers anywhere."""
        self.books.caller = caller.number
        self.query = [pair for pair in self.query if pair[0] not in ("from", "to")]
        self.body.pop("voip", None)
        if caller.sent is not None:
            to = self.dice.choice(OUR_NUMBERS)
            self.query += [("from", caller.sent), ("to", to)]
            self.body["voip"] = {"provider": "twilio", "from": caller.sent, "to": to}

    def record(self, behaviour: str) -> None:
        """The call has a recording, which the sounds' server serves in this way."""
        session_id = self.books.session_id
        self.body["recording"] = {"recording_url": f"{self.sounds_url}/sounds/{behaviour}{session_id}.wav"}
        self.books.recording = sound_of(session_id)

    def last(self, seconds: str | None) -> None:
        """`seconds` as a JSON literal, of at most three decimals."""
        self.body["duration"] = None if seconds is None else msgspec.Raw(seconds.encode())
        if seconds is None:
            self.books.duration_ms = None
        else:
            whole, _, part = seconds.partition(".")
            self.books.duration_ms = int(whole) * 1000 + int(part.ljust(3, "0")[:3])

    def encoded(self) -> bytes:
        return msgspec.json.encode(self.body)


def ordinary(plan: str, number: int, dice: Random, caller: Caller, sounds_url: str) -> Story:
    """The call of that number as the provider's page documents calls."""
    session_id = identifier(plan, number)
    agent_id, status = dice.choice(AGENTS), dice.choice(STATUSES)
    started_s, micros = _BASE_S + 37 * number + dice.randint(0, 30), dice.randint(0, 999_999)
    turns = conversation.draw_turns(dice)
    functions = conversation.draw_function_calls(dice, session_id)
    metadata = {"customer_tier": dice.choice(_TIERS), "visit": dice.randint(1, 99)}
    story = Story(
        dice=dice,
        body={
            "session_id": session_id,
            "agent_id": agent_id,
            "call_id": identifier(plan, number, "call"),
            "ts": msgspec.Raw(f"{started_s}.{micros:06d}".encode()),
            "chars_used": dice.randint(0, 4000),
            "call_status": status,
            "error_message": "the model did not answer" if status == "error" else None,
            "chat": json.dumps(conversation.sent_turns(turns), ensure_ascii=dice.random() < 0.5),
            "function_calls": conversation.sent_function_calls(functions),
            "recording": None,
            "metadata": metadata,
            "agent_config": _agent_config(session_id),
        },
        query=[
            ("session_id", session_id),
            ("agent_id", agent_id),
            *((name, str(value)) for name, value in metadata.items()),
        ],
        books=CallBooks(
            session_id=session_id,
            caller=None,
            agent_id=agent_id,
            status=status,
            original_status=status,
            started_at=started_s * 1_000_000 + micros,
            duration_ms=None,
            costs=None,
            chat_state="ok",
            turns=turns,
            function_calls=functions,
            recording=None,
        ),
        sounds_url=sounds_url,
    )
    story.last(str(dice.randint(0, 900)))
    story.bill({service: draw_micros(dice) for service in dice.sample(_SERVICES, dice.randint(1, 4))})
    story.call_from(caller)
    if dice.random() < 0.7:
        story.record(dice.choice(("", "", "", "", "", "", "", "late/", "slow/", "moved/")))
    return story


def web(story: Story) -> None:
    story.call_from(WEB)


def _agent_config(session_id: str) -> dict[str, Any]:
    """With secrets in every place where the provider's configuration has them. Source: provider facts, shapes."""
    secret = f"{SECRET_MARK}-{session_id.strip('-')}"
    return {
        "prompt": "You answer the telephone of a small company.",
        "voice": {"provider": "elevenlabs", "voice_id": "calm"},
        "language": "en-US",
        "tools": [
            {
                "name": "check_status",
                "webhook": f"https://crm.example/orders?api_key={secret}",
                "header": {"authorization": f"Bearer {secret}"},
                "method": "GET",
                "timeout": 5,
            }
        ],
        "app_functions": [{"name": "calendar", "credentials": {"refresh": secret}}],
        "session_data_webhook": {"url": "https://ringlog.example", "headers": {"authorization": f"Bearer {secret}"}},
        "llm": {"model": "small", "max_tokens": 400, "api_key": secret},
        "session_timeout": {"max_duration": 900, "max_idle": 20},
    }
