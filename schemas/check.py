"""The call of a check: it goes through a running ringlog like any other, and no book knows it.

`ringlog check` asks whether webhooks, journal and Kafka work. A call that never was must cost nobody anything: not as a
call of unknown cost, not by a plan that charges for every call, not as a transcript without a word. So our consumers
let it pass, by the id of its session, the fold too, and `ringlog consume` hands it to none of your own. It stays in the
topics.
"""

from collections.abc import Iterable

import msgspec

from schemas.event import Record

# Begins the session's id. The provider's ids begin otherwise, and only who has a webhook's key can send another.
CHECK_SESSION = "ringlog-check-"
CHECK_AGENT = "ringlog-check"


def is_check(session_id: str) -> bool:
    return session_id.startswith(CHECK_SESSION)


def without_checks(records: Iterable[Record]) -> list[Record]:
    """By the session that the edge has written in a record's header."""
    return [record for record in records if not is_check(record.header("ce_subject") or "")]


def check_body(session_id: str, at_s: int) -> bytes:
    """An end of call in which nobody said anything and which cost nothing. `at_s`: seconds since the epoch."""
    return msgspec.json.encode(
        {
            "session_id": session_id,
            "agent_id": CHECK_AGENT,
            "call_status": "user-ended",
            "ts": at_s,
            "duration": 0,
            "chat": [],
            "cost_breakdown": [],
        }
    )
