"""Words, as they are searched for: runs of letters and digits in any language, whatever their case. No stems.

Letters with accents are one letter however they were sent, and signs that belong to a letter, as the vowels of Hindi,
belong to the word.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable

# An index of PostgreSQL refuses an item above 2.7 kB. A longer word is found by its beginning, then looked at whole.
INDEXED_CHARACTERS = 128

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
    if plain.isascii():
        return plain.encode().translate(_ASCII).decode().split()
    return _word().findall(plain.replace("_", " "))


def indexed_words(texts: Iterable[str]) -> str:
    """All words of the texts, each once, with spaces between them. No word reaches from one text into the next."""
    words = dict.fromkeys(words_of("\n".join(texts)))
    return " ".join([word[:INDEXED_CHARACTERS] for word in words])


@functools.cache
def _word() -> re.Pattern[str]:
    """For what is not ASCII. It takes some milliseconds to find the marks."""
    marks = "".join(chr(code) for code in _MARKS if unicodedata.category(chr(code))[0] == "M")
    return re.compile(rf"[\w{marks}]+")
