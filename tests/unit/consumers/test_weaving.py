"""Function calls are where the chat says that they are, and nowhere where it says nothing."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from consumers.weaving import PlacedCall, placed
from schemas.chat import Chat, Turn
from schemas.function_calls import UNNAMED, FunctionCall, Mention

TURNS = tuple(Turn("user", str(number)) for number in range(6))


def chat(*mentions: Mention) -> Chat:
    return Chat("ok", TURNS, mentions)


def made(position: int, name: str = UNNAMED, params: str | None = None, id_: str | None = None) -> Mention:
    return Mention(position, FunctionCall(name, params, None, id_))


def answered(position: int, name: str = UNNAMED, id_: str | None = None) -> Mention:
    return Mention(position, FunctionCall(name, None, None, id_), is_result=True)


def places(of: Chat, calls: Sequence[FunctionCall]) -> list[tuple[str, str | None, int | None]]:
    return [(it.name, it.params, it.turns_before) for it in placed(of, calls)]


BOOK, CANCEL = FunctionCall("book", "{}", '"ok"'), FunctionCall("cancel", "{}")


def test_a_chat_that_tells_nothing_gives_no_places() -> None:
    assert placed(chat(), [BOOK, CANCEL]) == (
        PlacedCall("book", "{}", '"ok"', None),
        PlacedCall("cancel", "{}", None, None),
    )
    assert placed(Chat("none"), [CANCEL]) == (PlacedCall("cancel", "{}", None, None),)


def test_a_call_stands_after_the_turn_that_made_it_and_before_the_one_with_its_result() -> None:
    assert places(chat(made(2, "book")), [BOOK]) == [("book", "{}", 3)]
    assert places(chat(answered(2, "book")), [BOOK]) == [("book", "{}", 2)]
    assert places(chat(answered(0, "book")), [BOOK]) == [("book", "{}", 0)]


def test_a_call_and_its_result_are_one() -> None:
    assert places(chat(made(2, "book", id_="1"), answered(3, id_="1")), [BOOK]) == [("book", "{}", 3)]
    # The result would be the only one left for this call: but it is of the other one.
    told = chat(made(2, "book", id_="1"), answered(3, id_="1"))
    assert places(told, [BOOK, CANCEL]) == [("book", "{}", 3), ("cancel", "{}", None)]


def test_ids_tell_before_names_do() -> None:
    one, two = FunctionCall("book", '{"at":1}', None, "a"), FunctionCall("book", '{"at":2}', None, "b")
    told = chat(made(1, "book", '{"at":2}', "a"), made(3, "book", '{"at":1}', "b"))
    assert [it.turns_before for it in placed(told, [two, one])] == [4, 2]


def test_params_tell_which_of_several_calls_it_was() -> None:
    one, two = FunctionCall("book", '{"at":1}'), FunctionCall("book", '{"at":2}')
    told = chat(made(1, "book", '{"at":2}'), made(3, "book", '{"at":1}'))
    assert places(told, [one, two]) == [("book", '{"at":1}', 4), ("book", '{"at":2}', 2)]
    assert places(chat(made(1, "book", '{"at":2}')), [one, two]) == [
        ("book", '{"at":1}', None),
        ("book", '{"at":2}', 2),
    ]


def test_calls_of_one_name_are_told_of_in_their_order() -> None:
    calls = [FunctionCall("book", '{"n":1}'), CANCEL, FunctionCall("book", '{"n":2}')]
    told = chat(answered(1, "book"), answered(2, "book"), answered(4, "cancel"))
    assert [it.turns_before for it in placed(told, calls)] == [1, 4, 2]


def test_what_may_be_one_call_or_another_has_no_place() -> None:
    calls = [FunctionCall("book", '{"n":1}'), FunctionCall("book", '{"n":2}')]
    assert [it.turns_before for it in placed(chat(answered(1, "book")), calls)] == [None, None]
    assert [it.turns_before for it in placed(chat(answered(1)), calls)] == [None, None]
    assert [it.turns_before for it in placed(chat(answered(1, "pay")), calls[:1])] == [None]


def test_results_without_names_are_in_order_if_there_are_as_many() -> None:
    assert [it.turns_before for it in placed(chat(answered(1), answered(4)), [BOOK, CANCEL])] == [1, 4]
    told = chat(answered(1), answered(2, "book"), answered(4))
    assert [it.turns_before for it in placed(told, [CANCEL, BOOK])] == [None, 2]


def test_a_call_that_only_the_chat_tells_of_is_a_call() -> None:
    told = chat(made(1, "pay", '{"n":1}', "1"), answered(2, id_="1"), made(3, "book"))
    assert placed(told, [BOOK]) == (
        PlacedCall("book", "{}", '"ok"', 4),
        PlacedCall("pay", '{"n":1}', None, 2),
    )
    assert placed(chat(answered(2, "pay")), []) == ()  # its turn is there, and says all that is known


def test_what_function_calls_does_not_say_the_turn_may() -> None:
    bare = FunctionCall(UNNAMED, None, "5", "1")
    assert placed(chat(made(0, "pay", "[]", "1")), [bare]) == (PlacedCall("pay", "[]", "5", 1),)


NAMES, IDS = st.sampled_from(["a", "b", UNNAMED]), st.none() | st.sampled_from(["1", "2"])
CALLS = st.builds(FunctionCall, NAMES, st.none() | st.just("{}"), st.none(), IDS)
MENTIONS = st.builds(Mention, st.integers(0, 5), CALLS, st.booleans())


@given(st.lists(CALLS, max_size=5), st.lists(MENTIONS, max_size=6))
def test_no_call_is_lost_or_made_up_and_every_place_is_one_that_was_told(
    calls: list[FunctionCall], mentions: list[Mention]
) -> None:
    told = sorted(mentions, key=lambda mention: mention.position)
    found = placed(chat(*told), calls)
    assert [it.result for it in found[: len(calls)]] == [it.result for it in calls]
    if any(not it.is_result for it in told):
        tellable = [it.position + 1 for it in told if not it.is_result]
        assert len(found) >= len(tellable)
    else:
        tellable = [it.position for it in told]
        assert len(found) == len(calls)
    for place in {it.turns_before for it in found} - {None}:
        assert [it.turns_before for it in found].count(place) <= tellable.count(place)


def test_a_conversation_may_have_many_calls() -> None:
    told = Chat("ok", TURNS, tuple(made(number % 6, f"f{number}") for number in range(10_000)))
    found = placed(told, [FunctionCall(f"f{number}") for number in reversed(range(10_000))])
    assert (len(found), found[0]) == (10_000, PlacedCall("f9999", None, None, 9_999 % 6 + 1))
