"""What is asked for, as words. How the databases find them is in the integration tests."""

import pytest

from consumers.search import asked_words


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("open monday", ["open", "monday"]),
        ('  "open"  OR -monday* ', ['"open"', "OR", "-monday*"]),
        ("?! -- * \" '", []),
        ("a\0b \ud800", ["a\ufffdb"]),
        ("", []),
    ],
)
def test_words_stand_between_spaces_and_hold_a_letter_or_a_digit(said: str, asked: list[str]) -> None:
    assert asked_words(said) == asked
