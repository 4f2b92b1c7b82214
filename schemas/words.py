"""Words, as they are searched for: runs of letters and digits in any language, whatever their case. No stems.

Letters with accents are one letter however they were sent, and signs that belong to a letter, as the vowels of Hindi,
belong to the word.
"""

import functools
import re
import unicodedata
import zlib
from collections.abc import Iterable

_ASCII = bytes(code if chr(code).isalnum() else ord(" ") for code in range(128)) + b" " * 128

# Where Unicode has its combining marks. Those of scripts beyond 16 bits would make the search for words three times as
# long; they separate.
_MARKS = range(0x300, 0x10000)

# For memory: 10 MB at the most.
_REMEMBERED_WORDS = 50_000
_REMEMBERED_CHARACTERS = 64


def folded(text: str) -> str:
    """Texts that differ by case only, or by how their accents are encoded, become one."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def words_of(text: str) -> list[str]:
    """In their order, folded."""
    plain = folded(text)
    if plain.isascii():
        return plain.encode().translate(_ASCII).decode().split()
    return _word().findall(plain.replace("_", " "))


def spoken_words(texts: Iterable[str]) -> list[str]:
    """All words of the texts, in their order. No word reaches from one text into the next."""
    return words_of("\n".join(texts))


def word_numbers(words: Iterable[str]) -> list[int]:
    """Each once, sorted, 32 bits with a sign: for an index, which is smaller and faster with numbers. Two words may
    share one."""
    return sorted(set(map(_numbers.__getitem__, words)))


class _Numbers(dict[str, int]):
    """Of words that were met lately: most are met again and again."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _REMEMBERED_WORDS:
            self.clear()
        number = zlib.crc32(word.encode()) - 2**31
        if len(word) <= _REMEMBERED_CHARACTERS:
            self[word] = number
        return number


_numbers = _Numbers()


@functools.cache
def _word() -> re.Pattern[str]:
    """For what is not ASCII. It takes some milliseconds to find the marks."""
    marks = "".join(chr(code) for code in _MARKS if unicodedata.category(chr(code))[0] == "M")
    return re.compile(rf"[\w{marks}]+")
