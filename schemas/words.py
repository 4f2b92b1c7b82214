"""Words, as they are searched for: runs of letters and digits in any language, whatever their case. No stems.

Letters with accents are one letter however they were sent, and signs that belong to a letter, as the vowels of Hindi,
belong to the word.
"""

import functools
import re
import unicodedata
import zlib
from array import array
from collections.abc import Iterable

_ASCII = bytes(code if chr(code).isalnum() else ord(" ") for code in range(128)) + b" " * 128

# Where Unicode has its combining marks. Those of scripts beyond 16 bits would make the search for words three times as
# long; they separate.
_MARKS = range(0x300, 0x10000)


def folded(text: str) -> str:
    """Texts that differ by case only, or by how their accents are encoded, become one."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def words_of(text: str) -> list[str]:
    """In their order, folded."""
    plain = folded(text)
    return _in_ascii(plain).decode().split() if plain.isascii() else _found(plain)


def indexed_words(texts: Iterable[str]) -> str:
    """All words of the texts, each once, with spaces between them. No word reaches from one text into the next."""
    return " ".join(dict.fromkeys(words_of("\n".join(texts))))


def word_numbers(texts: Iterable[str]) -> "array[int]":
    """The same as numbers of 32 bits with a sign, CRC-32 of each: for an index, which is smaller with numbers, and
    compares them sooner. Two words may share one."""
    plain = folded("\n".join(texts))
    words = _in_ascii(plain).split() if plain.isascii() else map(str.encode, _found(plain))
    return array("i", array("I", dict.fromkeys(map(zlib.crc32, words))).tobytes())


def _in_ascii(plain: str) -> bytes:
    """With spaces for all that is of no word."""
    return plain.encode().translate(_ASCII)


def _found(plain: str) -> list[str]:
    return _word().findall(plain.replace("_", " "))


@functools.cache
def _word() -> re.Pattern[str]:
    """For what is not ASCII. It takes some milliseconds to find the marks."""
    marks = "".join(chr(code) for code in _MARKS if unicodedata.category(chr(code))[0] == "M")
    return re.compile(rf"[\w{marks}]+")
