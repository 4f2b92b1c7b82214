"""What a prefetch answers afterwards: the books as the agent gets to know them."""

import secrets
from collections.abc import Mapping
from urllib.parse import quote_plus

import aiohttp

from cli.simulator.call import Step
from cli.simulator.comparison import Difference
from cli.simulator.delivery import PrefetchAnswer, Target, prefetch_answer
from cli.simulator.dice import dice
from cli.simulator.expectation import CallerBooks

# Callers that are asked about.
SAMPLE = 20

# Statuses that a profile keeps under another name, or not at all, are compared in the transcripts.
_RENAMED = (None, "other")


class AnswerCheck:
    """Asks for a sample of the callers, and for one whom nobody knows."""

    def __init__(self, target: Target, plan: str, callers: Mapping[str, CallerBooks]) -> None:
        self._target = target
        numbers = sorted(callers)
        self._callers = {
            number: callers[number] for number in dice(plan, "asked").sample(numbers, min(SAMPLE, len(numbers)))
        }
        # Not from the seed: whoever was asked about once has called as far as ringlog knows.
        self._stranger = f"+1555{secrets.randbelow(10**9):09d}"

    async def differences(self, http: aiohttp.ClientSession) -> list[Difference]:
        found = []
        for number, books in self._callers.items():
            answer = await self._ask(http, number)
            if isinstance(answer, str):
                found.append(Difference(number, "prefetch", "an answer", answer))
            else:
                found += _of_caller(number, books, answer)
        answer = await self._ask(http, self._stranger)
        if isinstance(answer, str):
            found.append(Difference(self._stranger, "prefetch", "an answer", answer))
        elif answer.metadata or answer.extra_prompt:
            found.append(Difference(self._stranger, "prefetch of a stranger", "the empty answer", str(answer)[:200]))
        return found

    async def _ask(self, http: aiohttp.ClientSession, number: str) -> PrefetchAnswer | str:
        """The answer, or what was wrong with it."""
        query = f"session_id=verify-{secrets.token_hex(8)}&agent_id=verify&from={quote_plus(number)}"
        try:
            status, body = await self._target.send(http, Step(webhook="prefetch", content=query.encode()))
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__} {error}".strip()
        return prefetch_answer(body) or f"status {status}, no metadata and extra_prompt"


def _of_caller(number: str, books: CallerBooks, answer: PrefetchAnswer) -> list[Difference]:
    # Repeated here, not imported: these names are a promise to whoever writes a prompt.
    expected: dict[str, object] = {"ringlog_calls": books.calls}
    if books.certain and books.last is not None:
        if books.last.status not in _RENAMED:
            expected["ringlog_last_status"] = books.last.status
        if books.last.agent_id is not None:
            expected["ringlog_last_agent"] = books.last.agent_id
        expected |= books.last_metadata
    return [
        Difference(number, f"prefetch: {name}", repr(value), repr(answer.metadata.get(name)))
        for name, value in expected.items()
        if answer.metadata.get(name) != value
    ]
