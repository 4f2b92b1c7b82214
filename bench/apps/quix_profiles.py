"""The same state with Quix Streams, as a competent user writes it. Runs in an environment of its own.

State is kept by caller, the key of the topic: each session with its revisions, and the profile, in one RocksDB. It
does less: no checksums, no metadata, no session that moves to another caller and, which is not Quix's default, no
changelog.
"""

import json
import os
import sys
import tempfile
import time
from decimal import Decimal

from quixstreams import Application, State

EVENTS = int(sys.argv[1])
EMPTY = {"calls": 0, "duration_ms": 0, "cost_micros": 0, "unknown_costs": 0, "first": None, "last": None}


class Fold:
    """`began` and `used`: the clock's and the processor's seconds, at the first event."""

    def __init__(self) -> None:
        self.began = self.used = 0.0
        self.events = 0

    def __call__(self, event: dict, state: State) -> None:
        if not self.events:
            self.began, self.used = time.perf_counter(), time.process_time()
        self.events += 1
        body = event["body"]
        revision = {
            "at": event["received_at"],
            "id": event["event_id"],
            "agent": event["agent_id"],
            "status": body.get("call_status"),
            "duration_ms": round(body["duration"] * 1000) if body.get("duration") is not None else None,
            "cost": micros(body.get("cost_breakdown")),
        }
        key = "session " + event["session_id"]
        revisions = state.get(key) or []
        if any(known["id"] == revision["id"] for known in revisions):
            return
        profile = state.get("profile") or dict(EMPTY)
        if revisions:
            count(profile, revisions[-1], -1)
        revisions = sorted([*revisions, revision], key=lambda it: (it["at"], it["id"]))
        count(profile, revisions[-1], +1)
        at = revisions[0]["at"]
        if profile["first"] is None or at < profile["first"]:
            profile["first"] = at
        if profile["last"] is None or at >= profile["last"]["at"]:
            profile["last"] = {"at": at, "status": revision["status"], "agent": revision["agent"]}
        state.set(key, revisions)
        state.set("profile", profile)


def micros(breakdown: list | None) -> int | None:
    if breakdown is None or any(item.get("credit") is None for item in breakdown):
        return None
    return sum(round(Decimal(str(item["credit"])) * 1_000_000) for item in breakdown)


def count(profile: dict, revision: dict, sign: int) -> None:
    profile["calls"] += sign
    profile["duration_ms"] += sign * (revision["duration_ms"] or 0)
    profile["cost_micros"] += sign * (revision["cost"] or 0)
    profile["unknown_costs"] += sign * (revision["cost"] is None)


def main() -> None:
    fold = Fold()
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=os.environ["RINGLOG_KAFKA_BOOTSTRAP_SERVERS"],
            consumer_group=f"quix-{os.getpid()}",
            auto_offset_reset="earliest",
            state_dir=folder,
            use_changelog_topics=False,
            loglevel="WARNING",
        )
        topic = app.topic("calls.ended", key_deserializer="str", value_deserializer="json")
        app.dataframe(topic).update(fold, stateful=True)
        app.run(count=EVENTS, timeout=300)
        seconds, cpu_s = time.perf_counter() - fold.began, time.process_time() - fold.used
    print(json.dumps({"events": fold.events, "seconds": seconds, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
