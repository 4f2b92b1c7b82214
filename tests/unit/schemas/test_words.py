"""Words as they are searched for: the same in the index, in a turn and in what is asked."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.words import folded, indexed_words, word_numbers, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Is it open on Monday?", ["is", "it", "open", "on", "monday"]),
        ("me@example.com, a_b c-d 9:30", ["me", "example", "com", "a", "b", "c", "d", "9", "30"]),
        ("don't \\n <b>no</b>\ttwo\nlines", ["don", "t", "n", "b", "no", "b", "two", "lines"]),
        ("Grüße aus KÖLN_Süd", ["grüsse", "aus", "köln", "süd"]),
        ("हिन्दी में बात", ["हिन्दी", "में", "बात"]),
        ("漢字とかな。です", ["漢字とかな", "です"]),
        ("a\0b\ufffdc", ["a", "b", "c"]),
        ("?! -- \u2013 \U0001f600", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_in_any_language(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_case_and_the_encoding_of_an_accent_do_not_matter_and_the_accent_does() -> None:
    assert words_of("ÄRGER") == words_of("a\u0308rger") == ["ärger"]
    assert words_of("Straße") == words_of("STRASSE")
    assert words_of("ärger") != words_of("arger")


def test_the_index_has_each_word_once_in_the_order_in_which_it_was_first_said() -> None:
    assert indexed_words(["So, so", "no", "SO no more"]) == "so no more"
    assert indexed_words([]) == indexed_words(["", "?"]) == ""


def test_no_word_reaches_from_one_turn_into_the_next() -> None:
    assert indexed_words(["ab", "cd", "e\u0301", "\u0301f"]) == indexed_words(["ab cd é", "\u0301f"])
    assert indexed_words(["a", "b"]) == "a b"


@given(st.lists(st.text(), max_size=4))
def test_the_index_has_the_words_of_each_turn_and_no_others(texts: list[str]) -> None:
    """Whatever the other turns are: the search looks at no turn of a call whose words the index doesn't have."""
    words = list(dict.fromkeys(word for text in texts for word in words_of(text)))
    assert indexed_words(texts).split(" ") == (words or [""])
    assert list(word_numbers(texts)) == list(dict.fromkeys(number for word in words for number in word_numbers([word])))


def test_numbers_are_the_same_for_ever_and_fit_the_index() -> None:
    """They lie in databases: with others nobody would find what was said before."""
    numbers = {"monday": -539874039, "refund": 1529615448, "köln": -290907393}
    assert list(word_numbers(["Monday? A refund.", "Monday"])) == [numbers["monday"], -390611389, numbers["refund"]]
    assert {word: word_numbers([word])[0] for word in numbers} == numbers
    many = word_numbers(f"w{n}" for n in range(10_000))
    assert len(many) == 10_000 and -(2**31) <= min(many) < 0 < max(many) < 2**31
    assert len(word_numbers(["x" * 10_000_000])) == 1


@given(st.text())
def test_words_lie_in_the_folded_text_and_folding_again_changes_none(text: str) -> None:
    assert all(word in folded(text) for word in words_of(text))
    assert words_of(folded(text)) == words_of(text)
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(text)
