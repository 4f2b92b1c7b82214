"""Who the customer of a call is, decided once, at the edge."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec
import phonenumbers

from schemas.own_numbers import split_own_numbers

Direction = Literal["inbound", "outbound", "web", "unknown"]
Kind = Literal["phone", "metadata", "session"]

# Why a call has its direction, and which side of it is the caller:
# own-number: one side is ours, so the caller is the other. both-own, neither-own: both are, or none is, so that our
# list tells nothing; from-by-default: there is no list. In these three the caller is `from`. no-numbers: a web call.
DecidedBy = Literal["own-number", "both-own", "neither-own", "from-by-default", "no-numbers"]

# E.164 has at most 15 digits and no country code begins with 0. In a query string a plus arrives as a space.
_E164 = re.compile(r"[+ ][1-9][0-9]{6,14}")
_COUNTRY_DIGITS = re.compile(r"[1-9][0-9]*")

# What carriers send in place of a withheld number: letters of a keypad, in the shape of a number (Twilio's list).
# RESTRICTED, BLOCKED, UNKNOWN, ANONYMOUS, UNAVAILABLE. Strangers behind one of them must not share a profile.
_WITHHELD = frozenset(("+7378742833", "+2562533", "+8656696", "+266696687", "+86282452253"))

_KEY_BYTES = 16  # of the keyed hash: 128 bits, so that no two callers of any customer ever meet


class Caller(msgspec.Struct, frozen=True, omit_defaults=True):
    """`id` is the keyed hash by which topics and state know the caller; `number` is E.164, for kind `phone` only."""

    id: str
    kind: Kind
    number: str | None = None


class CallerIdentity:
    """Decides the caller of a call, and computes the keyed hash that names one everywhere.

    `own_numbers` are our user's agents' numbers, in any notation, or patterns: `+1555000*` is every number that begins
    so. The provider's pages contradict each other on whether `from` is the caller or the agent; with own numbers both
    readings come out with the same caller. Raises `ValueError` for an own number that is none.
    """

    def __init__(
        self,
        key: bytes,
        own_numbers: Iterable[str] = (),
        default_region: str | None = None,
        metadata_key: str | None = None,
    ) -> None:
        # blake2b takes a key of at most 64 bytes; hashing it first accepts any length.
        self._hash = hashlib.blake2b(digest_size=_KEY_BYTES, key=hashlib.sha256(key).digest())
        self._region = default_region
        self._metadata_key = metadata_key
        numbers, self._own_prefixes = split_own_numbers(own_numbers)
        self._own = frozenset(self._comparable(number) for number in numbers)
        self._knows_own = bool(self._own or self._own_prefixes)

    def identify(
        self, session_id: str, from_: str | None, to: str | None, metadata: Callable[[], Mapping[str, Any]]
    ) -> tuple[Caller, Direction, DecidedBy]:
        """The caller, the direction, and why it is that one. Unknown: neither number, or both, are our own.

        `metadata` is asked only where no number tells: reading it takes longer than all the rest.
        """
        side, direction, decided_by = self._customer_side(from_, to)
        if side is not None and (number := self.e164(side)) is not None:
            return Caller(self.id_of_number(number), "phone", number), direction, decided_by
        if self._metadata_key and (value := _scalar(metadata().get(self._metadata_key))):
            return Caller(self._id("metadata", value), "metadata"), direction, decided_by
        return Caller(self._id("session", session_id), "session"), direction, decided_by

    def id_of_number(self, e164: str) -> str:
        return self._id("phone", e164)

    def e164(self, number: str) -> str | None:
        """The number as E.164; None when it is anonymous, SIP or malformed."""
        if _E164.fullmatch(number):
            plain = "+" + number[1:]
            return None if plain in _WITHHELD else plain
        return self._parsed(number)

    def _customer_side(self, from_: str | None, to: str | None) -> tuple[str | None, Direction, DecidedBy]:
        if from_ is None and to is None:
            return None, "web", "no-numbers"
        if not self._knows_own:
            return from_, "unknown", "from-by-default"
        from_is_own = from_ is not None and self._is_own(from_)
        to_is_own = to is not None and self._is_own(to)
        if from_is_own and to_is_own:
            return from_, "unknown", "both-own"
        if from_is_own:
            return to, "outbound", "own-number"
        if to_is_own:
            return from_, "inbound", "own-number"
        return from_, "unknown", "neither-own"

    def _is_own(self, number: str) -> bool:
        plain = self._comparable(number)
        if plain in self._own:
            return True
        # A pattern's star stands for digits: an address that only begins like a number is not meant.
        return bool(self._own_prefixes) and plain.startswith(self._own_prefixes) and plain[1:].isdecimal()

    def _comparable(self, number: str) -> str:
        return self.e164(number) or "+" + number.strip().lstrip("+")

    def _parsed(self, number: str) -> str | None:
        text = number.strip()
        if number.startswith(" ") and _COUNTRY_DIGITS.match(text):
            text = "+" + text  # as above, with separators between the digits
        plain = self._read(text)
        if plain is None and _COUNTRY_DIGITS.fullmatch(text):
            # Digits alone, sent as a number perhaps, which has no plus: what is no national number is international.
            plain = self._read("+" + text)
        return plain

    def _read(self, text: str) -> str | None:
        if len(text) > 64 or not any(letter.isdigit() for letter in text) or "@" in text or ":" in text:
            return None  # a SIP address or a word such as "anonymous", which phonenumbers might read as a vanity number
        try:
            parsed = phonenumbers.parse(text, self._region)
        except phonenumbers.NumberParseException:
            return None
        if not phonenumbers.is_possible_number(parsed):
            return None
        plain: str = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
        return None if plain in _WITHHELD or not _E164.fullmatch(plain) else plain

    def _id(self, kind: Kind, value: str) -> str:
        digest = self._hash.copy()
        digest.update(f"{kind}:{value}".encode(errors="surrogatepass"))
        return digest.hexdigest()


def _scalar(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None
