"""All calls of a simulation: a pure function of their number, the shares and the seed."""

from collections.abc import Iterator, Sequence
from urllib.parse import quote, quote_plus

import msgspec

from cli.simulator.broken import BROKEN
from cli.simulator.call import Call, Step
from cli.simulator.caller import Callers
from cli.simulator.dice import dice, identifier
from cli.simulator.oddities import ODDITIES
from cli.simulator.revision import FIRST, REVISIONS
from cli.simulator.share import ShareError
from cli.simulator.story import Story, ordinary

# One broken body for so many odd calls.
_ODD_A_BROKEN = 10


class Wish(msgspec.Struct, frozen=True):
    """What is asked for. Shares are between 0 and 1."""

    calls: int
    duplicates: float
    revisions: float
    odd: float
    seed: int
    lost: float = 0.0

    @property
    def name(self) -> str:
        """Of the plan: every id is made from it, so that two plans share no session and no caller."""
        name = f"{self.seed}:{self.calls}:{self.duplicates}:{self.revisions}:{self.odd}"
        return f"{name}:{self.lost}" if self.lost else name


class Plan:
    """The calls, each made when it is asked for: a million of them need no memory.

    `sounds_url` is where their recordings are served. Raises `ShareError` when odd calls and revisions leave no room
    for each other: a call shows one of both.
    """

    def __init__(self, wish: Wish, sounds_url: str) -> None:
        self.wish = wish
        self._sounds_url = sounds_url.rstrip("/")
        odd, revised = round(wish.calls * wish.odd), round(wish.calls * wish.revisions)
        lost = round(wish.calls * wish.lost)
        if odd + revised + lost > wish.calls:
            raise ShareError(
                "--odd, --revisions and --lost together must not be more than 100%: a call shows one of them."
            )
        special = dice(wish.name, "special").sample(range(wish.calls), odd + revised + lost)
        doubled = dice(wish.name, "doubled").sample(range(wish.calls), round(wish.calls * wish.duplicates))
        self._odd = {number: turn for turn, number in enumerate(special[:odd])}
        self._revised = {number: turn for turn, number in enumerate(special[odd : odd + revised])}
        self._lost = {number: turn for turn, number in enumerate(special[odd + revised :])}
        self._doubled = {number: turn for turn, number in enumerate(doubled)}
        self.broken = -(-odd // _ODD_A_BROKEN)
        self.callers = Callers(wish.name, wish.calls)

    def __iter__(self) -> Iterator[Call]:
        """In the order of delivery; the broken bodies are spread among the calls."""
        sent = 0
        for number in range(self.wish.calls):
            yield self.call(number)
            if sent * self.wish.calls < (number + 1) * self.broken and sent < self.broken:
                yield self.broken_call(sent)
                sent += 1

    def __len__(self) -> int:
        return self.wish.calls + self.broken

    def at(self, position: int) -> Call:
        """The calls first, then the broken bodies: each under a number below `len`."""
        calls = self.wish.calls
        return self.call(position) if position < calls else self.broken_call(position - calls)

    def call(self, number: int) -> Call:
        """The call of that number, from 0."""
        throw = dice(self.wish.name, "call", number)
        special = number in self._odd or number in self._revised
        lost = self._lost.get(number)
        # An odd call begins with a telephone: some oddities take it away, and the others may need it.
        caller = self.callers.number(throw) if special else self.callers.draw(throw)
        story = ordinary(self.wish.name, number, throw, caller, self._sounds_url)
        shape, bodies = self._told(number, story)
        never_ended = story.order == "never ended"
        return Call(
            session_id=story.books.session_id,
            shape=shape,
            steps=_steps(story, bodies, self._doubled.get(number)) if lost is None else _announced(story, lost),
            books=None if never_ended else story.books,
            metadata=story.body.get("metadata") or {},
            body=None if never_ended else bodies[min(1, len(bodies) - 1)],
            lost=lost is not None,
        )

    def _told(self, number: int, story: Story) -> tuple[str, list[bytes]]:
        """The shape's name, and the bodies in their order."""
        if (turn := self._odd.get(number)) is not None:
            oddity = ODDITIES[turn % len(ODDITIES)]
            oddity(story)
            return oddity.__name__, [story.encoded()]
        if (turn := self._revised.get(number)) is not None:
            revision = REVISIONS[turn % len(REVISIONS)]
            if prepare := FIRST.get(revision):
                prepare(story)
            first = story.encoded()
            revision(story)
            # Every other time the first body comes again after the second: an old event, which must change nothing.
            again = [first] if turn % 2 == 0 else []
            return revision.__name__, [first, story.encoded(), *again]
        return "lost" if number in self._lost else "usual", [story.encoded()]

    def broken_call(self, number: int) -> Call:
        make = BROKEN[number % len(BROKEN)]
        session_id = identifier(self.wish.name, "broken", number)
        step = Step(webhook="end-of-call", content=make(session_id), broken=True)
        return Call(session_id=session_id, shape=make.__name__, steps=(step,), books=None, metadata={})


def _steps(story: Story, bodies: Sequence[bytes], doubled: int | None) -> tuple[Step, ...]:
    prefetch = Step(webhook="prefetch", content=_query(story))
    ends = [Step(webhook="end-of-call", content=body) for body in bodies]
    match story.order:
        case "usual":
            steps = [prefetch, *ends]
        case "ended first":
            steps = [*ends, prefetch]
        case "prefetch late":
            steps = [*ends, msgspec.structs.replace(prefetch, late=True)]
        case "no prefetch":
            steps = ends
        case "never ended":
            steps = [prefetch]
    return tuple(steps if doubled is None else _doubled(steps, doubled))


def _announced(story: Story, turn: int) -> tuple[Step, ...]:
    """Of a call whose end is lost: every other time nothing at all arrives."""
    return (Step(webhook="prefetch", content=_query(story)),) if turn % 2 == 0 else ()


def _doubled(steps: list[Step], turn: int) -> list[Step]:
    """The last delivery twice: at once, one after the other, long after; or the first one twice."""
    last = steps[-1]
    match turn % 4:
        case 0:
            return [*steps, last]
        case 1:
            return [*steps[:-1], msgspec.structs.replace(last, copies=2)]
        case 2:
            return [*steps, msgspec.structs.replace(last, late=True)]
        case _:
            return [steps[0], *steps]


def _query(story: Story) -> bytes:
    def value(text: str) -> str:
        return quote(text, safe="+") if story.plus_as_space else quote_plus(text)

    return "&".join(f"{quote_plus(name)}={value(text)}" for name, text in story.query).encode()
