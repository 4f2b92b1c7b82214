"""The calls that the bench makes: who calls, what was known of them, and the bytes of both webhooks."""

import itertools
import json
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import urlencode

OWN_NUMBER = "+15550001111"
AGENTS = tuple(f"-OAgent{number:013d}" for number in range(20))

# The provider's documented example has two turns; calls of some minutes have more. With these a body has 3 kB.
_TURNS = 24

_FIRST_CALL_S = 1_767_603_600

# As in any language: a word is as frequent as its rank is low, and frequent ones are short. A call has some hundred.
_VOCABULARY = 4000
_SHORT = 200


def _word(rank: int) -> str:
    more, syllable = divmod(rank, 500) if rank >= _SHORT else (0, rank)
    first, rest = divmod(syllable, 25)
    word = "bdfghjklmnprstvwyzcq"[first] + "aeiou"[rest // 5] + "lmnrs"[rest % 5]
    return word + "td"[more % 2] + "aeiou"[more // 2] if more else word


_WORDS = [_word(rank) for rank in range(_VOCABULARY)]
_FREQUENT = list(itertools.accumulate(1 / (rank + 1) for rank in range(_VOCABULARY)))

# What an HTTP client sends besides; the credential is for ringlog, which alone looks at it.
_HEADERS = (
    "host: ringlog.example\r\nauthorization: Bearer {key}\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\n"
    "user-agent: python-requests/2.32\r\n"
)


@dataclass(frozen=True)
class Caller:
    """`call` is the body of the last call's end, as the provider sends it; `facts` are the user's."""

    number: str
    facts: dict[str, Any]
    call: dict[str, Any]


def callers(count: int, dice: Random) -> list[Caller]:
    return [_caller(number, dice) for number in range(count)]


def _caller(number: int, dice: Random) -> Caller:
    phone = f"+1555{number:07d}"
    facts = {
        "name": f"Customer {number}",
        "tier": dice.choice(("gold", "silver", "new")),
        "open_order": f"{dice.randrange(10**6):06d}",
    }
    return Caller(phone, facts, call_of(phone, number, dice))


def _said(dice: Random) -> str:
    return " ".join(dice.choices(_WORDS, cum_weights=_FREQUENT, k=dice.randint(3, 14)))


def call_of(phone: str, number: int, dice: Random) -> dict[str, Any]:
    turns = [{"role": "user" if turn % 2 else "assistant", "content": _said(dice)} for turn in range(_TURNS)]
    session_id, agent = f"-O{dice.getrandbits(90):018x}", dice.choice(AGENTS)
    return {
        "session_id": session_id,
        "agent_id": agent,
        "call_id": f"call-{number}",
        "ts": _FIRST_CALL_S + number + 0.886249,
        "duration": dice.randint(1, 900),
        "chars_used": dice.randint(0, 4000),
        "call_status": "user-ended",
        "error_message": None,
        "chat": json.dumps(turns),
        "function_calls": [{"name": "check_status", "params": {"order_id": 6689, "session_id": session_id}}],
        "cost_breakdown": [
            {"type": type_, "provider": provider, "credit": round(dice.random() / 20, 4)}
            for type_, provider in (("stt", "millis"), ("tts", "elevenlabs"), ("llm", "openai"))
        ],
        "voip": {"provider": "twilio", "from": phone, "to": OWN_NUMBER},
        "recording": {"recording_url": f"https://recordings.example/{session_id}.wav"},
        "metadata": {"customer_tier": "gold", "visit": dice.randint(1, 99)},
        "agent_config": _agent_config(agent),
    }


def _agent_config(agent: str) -> dict[str, Any]:
    """With credentials, as the provider's has them: they must be found. All calls of an agent have the same one."""
    secret = f"secret-of{agent}"
    return {
        "prompt": "You answer the telephone of a small company. Be brief, be kind, never promise a date.",
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
        "session_data_webhook": {"url": "https://ringlog.example", "headers": {"authorization": f"Bearer {secret}"}},
        "llm": {"model": "small", "max_tokens": 400},
        "session_timeout": {"max_duration": 900, "max_idle": 20},
    }


def prefetch_request(caller: Caller, key: str, dice: Random) -> bytes:
    query = urlencode(
        {
            "session_id": f"-O{dice.getrandbits(90):018x}",
            "agent_id": caller.call["agent_id"],
            "from": caller.number,
            "to": OWN_NUMBER,
            "customer_tier": "gold",
        }
    )
    return f"GET /webhooks/prefetch?{query} HTTP/1.1\r\n{_HEADERS.format(key=key)}\r\n".encode()


def end_of_call_request(caller: Caller, key: str) -> bytes:
    body = json.dumps(caller.call).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return f"POST /webhooks/end-of-call HTTP/1.1\r\n{_HEADERS.format(key=key)}{head}".encode() + body
