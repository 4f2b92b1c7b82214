"""Waits until the books have caught up, and says what they say wrongly."""

import asyncio
import time
from collections.abc import Callable, Container, Iterator, Sequence

import aiohttp
import msgspec
from aiokafka.errors import KafkaError
from sqlalchemy.exc import DBAPIError

from cli.simulator.answer_check import AnswerCheck
from cli.simulator.book_reader import BATCH, BookReader, Said
from cli.simulator.call import Call
from cli.simulator.comparison import Difference, caller_differences, differences, shared_profiles
from cli.simulator.delivery import Target
from cli.simulator.expectation import Expectation
from cli.simulator.plan import Plan
from cli.simulator.progress_of_books import events_behind
from cli.simulator.sound import Sound
from cli.simulator.stored_sound import StoredSounds
from runtime.settings import Settings

# When everything has been read and nothing has changed for so long, nothing will.
STILL_S = 15.0

# The pause between two looks: at least this, and as long as a look took, so that looking is never the larger load.
_PAUSE_S = 0.5

# The state is materialised beside the books, usually within a second of them; a killed builder is back in a few.
_ANSWERS_WITHIN_S = 30.0


class Verdict(msgspec.Struct):
    """`waited_s` until the books had caught up, or until it was given up. `note` says what could not be looked at."""

    differences: list[Difference]
    waited_s: float
    note: str | None = None


class Verification:
    """Compares a plan with the books of a ringlog. `undelivered` sessions are left out: of those nobody knows.

    `all_announced`: the service was there all the time, so no prefetch may lack its event.
    """

    def __init__(
        self,
        plan: Plan,
        expected: Expectation,
        undelivered: Container[str],
        *,
        all_announced: bool,
        reader: BookReader,
        sounds: StoredSounds,
        target: Target,
        http: aiohttp.ClientSession,
        settings: Settings,
    ) -> None:
        self._plan = plan
        self._expected = expected
        self._undelivered = undelivered
        self._all_announced = all_announced
        self._reader = reader
        self._sounds = sounds
        self._target = target
        self._http = http
        self._settings = settings
        self._note: str | None = None

    async def run(self, within_s: float, progress: Callable[[int], None]) -> Verdict:
        """`progress` is told how many calls the books have right. Takes at most `within_s` and a last look."""
        started = time.monotonic()
        await self._caught_up(started + within_s, progress)
        waited = time.monotonic() - started
        try:
            found = await self._everything()
        except DBAPIError as error:
            found = [Difference("the database", "tables", "readable", _reason(error))]
        found += await self._answers()
        return Verdict(found, waited, self._note)

    async def _caught_up(self, deadline: float, progress: Callable[[int], None]) -> None:
        """Returns when all calls agree and all events are read, or when that will not come."""
        wrong: Sequence[int] = range(len(self._plan))
        changed = time.monotonic()
        while time.monotonic() < deadline:
            began = time.monotonic()
            try:
                still, working = await self._look(wrong)
                # Asking Kafka takes two connections: only when the books alone don't tell how far they are.
                moving = bool(still) and len(still) != len(wrong)
                behind = None if moving else await events_behind(self._settings, self._reader)
            except (DBAPIError, KafkaError, OSError):
                # Not there yet, or just being restarted: the last look will say so if it stays away.
                still, working, behind = list(wrong), True, None
            now = time.monotonic()
            if len(still) != len(wrong) or working or behind:
                changed = now
            wrong = still
            progress(len(self._plan) - len(wrong))
            if not wrong and behind == 0:
                return
            if now - changed > STILL_S:
                if behind is None:
                    self._note = "Kafka could not be asked whether everything was read."
                return
            await asyncio.sleep(max(_PAUSE_S, now - began))

    async def _look(self, positions: Sequence[int]) -> tuple[list[int], bool]:
        """Which of these calls are wrong in the books, and whether a recording of theirs is still being fetched."""
        wrong, working = [], False
        for some in _batches(positions):
            calls = {position: self._plan.at(position) for position in some}
            said = await asyncio.to_thread(self._reader.said, [call.session_id for call in calls.values()])
            for position, call in calls.items():
                if call.session_id in self._undelivered:
                    continue
                if differences(call, said[call.session_id], all_announced=self._all_announced):
                    wrong.append(position)
                    recording = said[call.session_id].recording
                    working |= recording is not None and recording.status == "pending"
        return wrong, working

    async def _everything(self) -> list[Difference]:
        """All calls once more, with what can only be judged together: callers and stored objects."""
        found: list[Difference] = []
        ids: dict[str, set[str]] = {}
        nameless: list[tuple[str, str]] = []
        uncertain: set[str] = set()
        for some in _batches(range(len(self._plan))):
            calls = [self._plan.at(position) for position in some]
            said = await asyncio.to_thread(self._reader.said, [call.session_id for call in calls])
            for call in calls:
                if call.session_id in self._undelivered:
                    if call.books and call.books.caller:
                        uncertain.add(call.books.caller)
                    continue
                found += differences(call, said[call.session_id], all_announced=self._all_announced)
                _note_caller(call, said[call.session_id], ids, nameless)
            found += await self._sounds.differences(_stored(calls, said))
        callers = {number: books for number, books in self._expected.callers.items() if number not in uncertain}
        all_ids = {caller_id for known in ids.values() for caller_id in known}
        sums = await asyncio.to_thread(self._reader.sums, all_ids)
        return found + caller_differences(callers, ids, sums) + shared_profiles(nameless, ids)

    async def _answers(self) -> list[Difference]:
        check = AnswerCheck(self._target, self._plan.wish.name, self._expected.callers)
        deadline = time.monotonic() + _ANSWERS_WITHIN_S
        while True:
            found = await check.differences(self._http)
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(1.0)


def _note_caller(call: Call, said: Said, ids: dict[str, set[str]], nameless: list[tuple[str, str]]) -> None:
    if call.books is None or said.transcript is None:
        return
    if call.books.caller is None:
        nameless.append((call.session_id, said.transcript.caller_id))
    else:
        ids.setdefault(call.books.caller, set()).add(said.transcript.caller_id)


def _stored(calls: Sequence[Call], said: dict[str, Said]) -> dict[str, tuple[str, Sound]]:
    """The objects that there must be and that a row names."""
    stored = {}
    for call in calls:
        row = said[call.session_id].recording
        if call.books and call.books.recording and row and row.object:
            stored[call.session_id] = row.object, call.books.recording
    return stored


def _batches(positions: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(positions), BATCH):
        yield positions[start : start + BATCH]


def _reason(error: DBAPIError) -> str:
    return str(error.orig).partition("\n")[0]
