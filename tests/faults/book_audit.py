"""The oracle of the books: what a history must have come to, beside tables, objects, topics and dead letters."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import obstore
from obstore.store import from_url
from sqlalchemy import Table, func, select
from sqlalchemy.exc import DBAPIError

from cli.simulator.book_reader import BookReader
from cli.simulator.comparison import Difference, differences
from cli.simulator.stored_sound import StoredSounds
from consumers.database import open_engine, read_only
from consumers.outbox import waiting_in
from consumers.tables import billing_entries, positions, recordings, transcripts
from runtime.settings import Settings
from schemas.event import Record
from schemas.topics import CALLS_ENDED, dead_letters
from tests.faults.derived_audit import derived_wrong
from tests.faults.history import History
from tests.faults.whole_topic import ends_of, whole_topic

BOOKS: dict[str, Table] = {"billing": billing_entries, "transcripts": transcripts, "recordings": recordings}

_LOOK_EVERY_S = 0.2


class BookAudit:
    """`consumers` are those whose books are looked at. Everything that it finds is one sentence."""

    def __init__(self, settings: Settings, history: History, consumers: Sequence[str]) -> None:
        self._settings = settings
        self._history = history
        self._consumers = consumers

    async def settled(self, within_s: float) -> None:
        """Waits until all that was put is read, every derived event has left and no recording is due.

        Raises `AssertionError` with what is still missing.
        """
        waits_for = ["anything to be seen"]
        try:
            async with asyncio.timeout(within_s):
                while True:
                    ends = await ends_of(self._settings, CALLS_ENDED)
                    waits_for = await asyncio.to_thread(self._unsettled, ends)
                    if not waits_for:
                        return
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise AssertionError(f"not settled within {within_s:g} s: {'; '.join(waits_for)}") from None

    async def wrong(self) -> list[str]:
        """What the books, the storage, the derived topics and the dead letters say that is not so."""
        reader = BookReader.open(self._settings)
        try:
            said = await asyncio.to_thread(reader.said, list(self._history.calls))
        finally:
            reader.close()
        found = [it for call in self._history.calls.values() for it in differences(call, said[call.session_id])]
        if "recordings" in self._consumers:
            found += await StoredSounds(self._settings.recordings).differences(
                {
                    session_id: (row.object, call.books.recording)
                    for session_id, call in self._history.calls.items()
                    if call.books and call.books.recording and (row := said[session_id].recording) and row.object
                }
            )
        wrong = [f"{it.about}: {it.what}: {it.said}, not {it.expected}" for it in found if self._concerns(it)]
        wrong += await asyncio.to_thread(lambda: [*self._never_sent(), *self._stray_objects()])
        for consumer in self._consumers:
            wrong += await derived_wrong(self._settings, self._history, consumer)
            wrong += await self._letters_wrong(consumer)
        return wrong

    def _concerns(self, difference: Difference) -> bool:
        book = {"call": "calls", "cost": "billing", "recording": "recordings", "object": "recordings"}
        return book.get(difference.what.partition(" ")[0], "transcripts") in self._consumers

    def _unsettled(self, ends: dict[int, int]) -> list[str]:
        topic = CALLS_ENDED.named(self._settings.topic_prefix)
        waits_for = []
        engine = read_only(open_engine(self._settings))
        try:
            with engine.connect() as tx:
                at = {
                    (row.consumer, row.partition): row.next_offset
                    for row in tx.execute(select(positions).where(positions.c.topic == topic))
                }
                for consumer in self._consumers:
                    behind = {part: (at.get((consumer, part)), end) for part, end in ends.items()}
                    behind = {part: it for part, it in behind.items() if it[1] and it[0] != it[1]}
                    waits_for += [f"{consumer} is at {it[0]} of {it[1]} in {part}" for part, it in behind.items()]
                if waiting := sum(waiting_in(tx, consumer) for consumer in self._consumers):
                    waits_for.append(f"{waiting} events in the outbox")
                due = select(func.count()).select_from(recordings).where(recordings.c.status == "pending")
                if "recordings" in self._consumers and (pending := tx.execute(due).scalar_one()):
                    waits_for.append(f"{pending} recordings pending")
        except DBAPIError as error:
            waits_for.append(f"the database: {error.orig}")
        finally:
            engine.dispose()
        return waits_for

    def _never_sent(self) -> Iterator[str]:
        """Sessions in the books that nobody has put into the topic."""
        engine = read_only(open_engine(self._settings))
        with engine.connect() as tx:
            for name, table in BOOKS.items():
                sessions = set(tx.execute(select(table.c.session_id).distinct()).scalars())
                if name in self._consumers:
                    yield from (
                        f"{it}: in {table.name}, and never sent" for it in sessions - self._history.calls.keys()
                    )
        engine.dispose()

    def _stray_objects(self) -> Iterator[str]:
        """Objects that no row names: a sound doubled under another name, or half a one left lying."""
        if "recordings" not in self._consumers:
            return
        engine = read_only(open_engine(self._settings))
        with engine.connect() as tx:
            named = set(tx.execute(select(recordings.c.object)).scalars())
        engine.dispose()
        yield from (f"{it}: an object that no row names" for it in sorted(set(self._objects()) - named))

    def _objects(self) -> Iterator[str]:
        url = self._settings.recordings
        if url.startswith("file:"):  # read as files: the store's own list leaves out what it has not finished
            root = Path(url.removeprefix("file://"))
            yield from (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
            return
        for page in obstore.list(from_url(url)):
            yield from (it["path"] for it in page)

    async def _letters_wrong(self, consumer: str) -> list[str]:
        """Every poison event is there, whole, with the place where it lies; nothing else is."""
        letters = await whole_topic(self._settings, dead_letters(consumer))
        said: dict[tuple[bytes | None, bytes | None], set[str]] = {}
        for letter in letters:
            place = "/".join(str(letter.header(f"dead_letter_{what}")) for what in ("topic", "partition", "offset"))
            said.setdefault((letter.key, letter.value), set()).add(place)
        lies = {(it.key, it.value): f"{it.topic}/{it.partition}/{it.offset}" for it in await self._poison_in_topic()}
        wrong = [f"dead letter of {consumer}, never poisoned: {it[1]!r}"[:200] for it in said if it not in lies]
        for event, place in lies.items():
            # A process that dies between the acknowledgement and the commit writes it again: the same place.
            if said.get(event) != {place}:
                wrong.append(f"{event[1]!r}: the dead letters of {consumer} say {said.get(event)}, not {place}")
        return wrong

    async def _poison_in_topic(self) -> list[Record]:
        if not self._history.poison:
            return []
        poison = {event.value for event in self._history.poison}
        return [it for it in await whole_topic(self._settings, CALLS_ENDED) if it.value in poison]
