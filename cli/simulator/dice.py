"""Chance that comes out the same every time."""

import hashlib
from random import Random

# A session id has the look of the provider's: 20 characters that begin with a dash. Source: provider facts, shapes.
_ID_LETTERS = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 18


def dice(*words: object) -> Random:
    """A generator of its own for each sequence of words: what one call draws moves no other call."""
    return Random("/".join(map(str, words)))  # noqa: S311 - a plan must repeat; nothing here is secret


def identifier(*words: object) -> str:
    """An id in the provider's notation, the same for the same words."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=_ID_LENGTH).digest()
    return "-O" + "".join(_ID_LETTERS[byte % 64] for byte in digest)
