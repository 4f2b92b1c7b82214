"""Words as they are searched for: the same in the index, in a turn and in what is asked."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.words import folded, spoken_words, word_numbers, words_of


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


def test_no_word_reaches_from_one_turn_into_the_next() -> None:
    assert spoken_words(["ab", "cd", "e\u0301", "\u0301f"]) == spoken_words(["ab cd é", "\u0301f"])
    assert spoken_words(["a", "b"]) == ["a", "b"]


@given(st.lists(st.text(), max_size=4))
def test_the_words_of_a_call_are_those_of_each_turn(texts: list[str]) -> None:
    """Whatever the other turns are: the search looks at no turn of a call whose words the index doesn't have."""
    assert spoken_words(texts) == [word for text in texts for word in words_of(text)]


def test_numbers_are_the_same_for_ever_and_fit_the_index() -> None:
    """They lie in databases: with others nobody would find what was said before."""
    assert word_numbers(["monday", "refund", "köln", "", "monday"]) == [-2147483648, -617868200, 1607609609, 1856576255]
    numbers = word_numbers(f"w{n}" for n in range(100_000))  # more than are remembered
    assert numbers == sorted(numbers) and numbers[0] >= -(2**31) and numbers[-1] < 2**31
    assert word_numbers(["x" * 10_000]) == word_numbers(["x" * 10_000])


@given(st.text())
def test_words_lie_in_the_folded_text_and_folding_again_changes_none(text: str) -> None:
    assert all(word in folded(text) for word in words_of(text))
    assert words_of(folded(text)) == words_of(text)
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(text)
