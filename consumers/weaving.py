"""Where in the talk each function call stands, as far as the chat tells."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence

import msgspec

from schemas.chat import Chat
from schemas.function_calls import UNNAMED, FunctionCall, Mention


class PlacedCall(msgspec.Struct, frozen=True, gc=False):
    """`turns_before`: how many turns of the chat come before the call; None where nothing tells."""

    name: str
    params: str | None
    result: str | None
    turns_before: int | None


def placed(chat: Chat, calls: Sequence[FunctionCall]) -> tuple[PlacedCall, ...]:
    """The `calls` in their order, then those that only the chat tells of.

    A call stands where a turn tells of it: after the turn that made it, or before the turn that has its result. Which
    call is meant follows from its id, else from its name and params, else from its name, else (when the turns name
    none) from the order; and only if there are as many calls as turns that tell of them. Of two calls and one turn
    nobody knows which it was: neither gets a place, and the turn, which may be of one of them, adds none to them. As
    little is known of one call and two turns.
    """
    made = [mention for mention in chat.mentions if not mention.is_result]
    # Results tell of places only where no turn tells of the calls themselves: else one call would be told of twice.
    told = made or chat.mentions
    if not told:
        return tuple(PlacedCall(it.name, it.params, it.result, None) for it in calls)
    found = _matches(calls, told)
    known = set(found.values())
    may_be = _Doubtful([call for number, call in enumerate(calls) if number not in found])
    of_the_chat = (
        mention
        for place, mention in enumerate(told)
        if place not in known and not mention.is_result and not may_be.one_of_them(mention.call)
    )
    return (
        *(_known(call, told[found[number]] if number in found else None) for number, call in enumerate(calls)),
        *(_known(mention.call, mention) for mention in of_the_chat),
    )


class _Doubtful:
    """Calls of which nobody knows which turns tell of them."""

    def __init__(self, calls: Collection[FunctionCall]) -> None:
        self._any = bool(calls)
        self._names = {call.name for call in calls}
        self._ids = {call.id for call in calls} - {None}

    def one_of_them(self, told: FunctionCall) -> bool:
        """Whether it may be: by its id, by its name, or because it has none."""
        nameless = self._any and told.name == UNNAMED
        return nameless or told.name in self._names or told.id in self._ids


def _known(call: FunctionCall, mention: Mention | None) -> PlacedCall:
    """What `function_calls` doesn't say, the turn may."""
    if mention is None:
        return PlacedCall(call.name, call.params, call.result, None)
    return PlacedCall(
        mention.call.name if call.name == UNNAMED else call.name,
        mention.call.params if call.params is None else call.params,
        call.result,
        mention.position if mention.is_result else mention.position + 1,
    )


def _matches(calls: Sequence[FunctionCall], told: Sequence[Mention]) -> dict[int, int]:
    """Index of a call -> index of the mention that is of it."""
    left, unmatched = dict(enumerate(calls)), {place: mention.call for place, mention in enumerate(told)}
    found: dict[int, int] = {}
    for key in (_by_id, _by_name_and_params, _by_name):
        of_calls, of_told = _grouped(left.items(), key), _grouped(unmatched.items(), key)
        for same, numbers in of_calls.items():
            if len(places := of_told.get(same, ())) == len(numbers):
                found.update(zip(numbers, places, strict=True))
        left, unmatched = _without(left, found.keys()), _without(unmatched, found.values())
    if len(left) == len(unmatched) and all(call.name == UNNAMED for call in unmatched.values()):
        found.update(zip(left, unmatched, strict=True))
    return found


def _grouped(
    items: Iterable[tuple[int, FunctionCall]], key: Callable[[FunctionCall], Hashable]
) -> Mapping[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for number, call in items:
        if (of_it := key(call)) is not None:
            groups.setdefault(of_it, []).append(number)
    return groups


def _without(some: dict[int, FunctionCall], gone: Iterable[int]) -> dict[int, FunctionCall]:
    known = set(gone)
    return {number: call for number, call in some.items() if number not in known}


def _by_id(call: FunctionCall) -> Hashable:
    return call.id


def _by_name_and_params(call: FunctionCall) -> Hashable:
    return None if call.name == UNNAMED or call.params is None else (call.name, call.params)


def _by_name(call: FunctionCall) -> Hashable:
    return None if call.name == UNNAMED else call.name
