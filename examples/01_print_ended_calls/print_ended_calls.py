"""Prints a line for each ended call."""

from collections.abc import Sequence

from consumers.calls import ended_call
from consumers.contract import Record
from schemas.topics import CALLS_ENDED


class PrintEndedCalls:
    name = "print-ended-calls"
    topics = (CALLS_ENDED,)

    def deliver(self, records: Sequence[Record]) -> None:
        for record in records:
            call = ended_call(record)
            seconds = "?" if call.body.duration is None else round(call.body.duration)
            turns = len(call.body.chat_turns().turns)
            print(f"{call.session_id}: {call.body.status.value}, {seconds} s, {turns} turns", flush=True)
