"""What the provider would send, each message once and never twice the same; and what must become of it.

The expectation is made beside the message and not from it: nothing here knows how ringlog reads, redacts or hashes,
except for the rule by which an event gets its id, which is a promise.
"""

import base64
import hashlib
import json
import random
import secrets
from typing import NamedTuple

ENDED, REJECTED, PREFETCHED = "calls.ended", "calls.rejected", "calls.prefetch"

_CALLERS = 60  # so that calls of one caller meet in their partition, and all partitions have some
_REDACTED = "[redacted]"

# Characters of a chat, and how often: most calls are short, some are long, a few are larger than what is read inline.
_CHAT_LENGTHS = ((200, 60), (2_000, 30), (20_000, 9), (120_000, 1))
_WORDS = "hello yes no appointment tomorrow café naïve Größe 電話 please number invoice thank you".split()


class Message(NamedTuple):
    """One webhook request.

    Attributes:
        topic: Where its event must lie: `ENDED`, `REJECTED` or `PREFETCHED`.
        content: The body of a POST; of `PREFETCHED` the query of a GET.
        status: Of the answer to one who was accepted.
        event_id: Of its event.
        kept: The event's `body`, to the byte; of `REJECTED` the quarantined bytes.
        secrets: What must be found nowhere.
    """

    topic: str
    session_id: str
    content: bytes
    status: int
    event_id: str
    kept: bytes
    secrets: tuple[bytes, ...] = ()


class Provider:
    """The same seed sends the same calls; their sessions are new in every run."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._run = secrets.token_hex(4)
        self._count = 0
        self._numbers = [f"+1555{self._dice.randrange(10**7):07d}" for _ in range(_CALLERS)]

    def end_of_call(self) -> Message:
        session_id = self._session()
        number = self._dice.choice(self._numbers)
        sent_config, kept_config, hidden = self._agent_config()
        # Odd spelling that is right JSON: it must come out as it went in.
        members = {
            "session_id": json.dumps(session_id),
            "agent_id": '"-Om\\u004eF485Na8"',
            "ts": f"{1_700_000_000 + self._dice.random() * 1e6:.6f}",
            "duration": self._dice.choice(("12.50", "61", "null", "1.0e1")),
            "call_status": '"user-ended"',
            "chat": json.dumps(self._chat(), ensure_ascii=self._dice.random() < 0.5),
            "cost_breakdown": '[{"type": "llm", "provider":"openai","credit":0.00120000000}, {"credit":1E-6}]',
            "voip": json.dumps({"from": number, "to": "+15557654321"}),
            "agent_config": sent_config,
            "call_metrics": f'{{"latencies":[ {self._dice.random()}, 0.10 ], "\\u00e9":"\\/"}}',
        }
        content = "{" + ", ".join(f'"{name}": {value}' for name, value in members.items()) + "}"
        members["agent_config"] = kept_config
        kept = "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"
        id_ = event_id("ringlog.call.ended", session_id, content.encode())
        return Message(ENDED, session_id, content.encode(), 200, id_, kept.encode(), hidden)

    def broken(self) -> Message:
        """A body that nobody can read."""
        content = f'{{"session_id": "{self._session()}", "chat": "cut in the mid'.encode()
        id_ = event_id("rejected", "end-of-call", hashlib.sha256(content).hexdigest().encode())
        return Message(REJECTED, "", content, 400, id_, content)

    def prefetch(self) -> Message:
        session_id, number = self._session(), self._dice.choice(self._numbers)
        query = f"session_id={session_id}&agent_id=-OmNNf&from=%2B{number[1:]}&to=%2B15557654321&campaign=spring"
        parameters = {
            "session_id": session_id,
            "agent_id": "-OmNNf",
            "from": number,
            "to": "+15557654321",
            "campaign": "spring",
        }
        kept = json.dumps(parameters, separators=(",", ":")).encode()
        id_ = event_id("ringlog.call.prefetched", session_id, query.encode())
        return Message(PREFETCHED, session_id, query.encode(), 200, id_, kept)

    def _session(self) -> str:
        self._count += 1
        return f"fault-{self._run}-{self._count}"

    def _chat(self) -> str:
        lengths, weights = zip(*_CHAT_LENGTHS, strict=True)
        (length,) = self._dice.choices(lengths, weights)
        turns, said = [], 0
        while said < length:
            words = " ".join(self._dice.choices(_WORDS, k=self._dice.randrange(3, 60)))
            turns.append({"role": self._dice.choice(("user", "assistant")), "content": words})
            said += len(words)
        return json.dumps(turns, ensure_ascii=False)

    def _agent_config(self) -> tuple[str, str, tuple[bytes, ...]]:
        """As sent, as it must be kept, and the secrets in it: half of the calls have some."""
        if self._dice.random() < 0.5:
            return "null", "null", ()
        token, key = (f"hush{self._dice.getrandbits(64):016x}" for _ in range(2))

        def config(token: str, bearer: str, key: str) -> str:
            return (
                f'{{"temperature":0.10,"tools":[{{"webhook":"https://tools.example/book?day=1&token={token}",'
                f'"header":{{"authorization":"{bearer}","x-plain":"{bearer}"}},"timeout":5}}],'
                f'"max_tokens":4096,"apiKey":"{key}"}}'
            )

        sent = config(token, f"Bearer {key}", key)
        return sent, config(_REDACTED, _REDACTED, _REDACTED), (token.encode(), key.encode())


def event_id(kind: str, name: str, received: bytes) -> str:
    """The promise: a hash of kind, session and the bytes received."""
    return hashlib.blake2b(f"{kind}\0{name}\0".encode() + received, digest_size=16).hexdigest()


def quarantined(head: str) -> bytes:
    """The bytes in a record of `calls.rejected`."""
    return base64.b64decode(head)
