"""Prints a line for each ended call."""

from collections.abc import Sequence

from consumers.calls import ended_call
from consumers.contract import Record
from schemas.topics import CALLS_ENDED


class PrintEndedCalls:
    name = "print-ended-calls"
    topics = (CALLS_ENDED,)

    def deliver(self, records: Sequence[Record]) -> None:
        # All are read before the first is printed: one that can't be read makes the batch come again, one by one.
        for call in [ended_call(record) for record in records]:
            seconds = "?" if call.body.duration is None else round(call.body.duration)
            turns = len(call.body.chat_turns().turns)
            status = call.body.status.value or "no status"
            print(f"{call.session_id}: {status}, {seconds} s, {turns} turns", flush=True)
