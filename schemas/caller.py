"""Who the customer of a call is, decided once, at the edge."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec
import phonenumbers

Direction = Literal["inbound", "outbound", "web", "unknown"]
Kind = Literal["phone", "metadata", "session"]

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

    `own_numbers` are the customer's agents' numbers, in any notation. The provider's pages contradict each other on
    whether `from` is the caller or the agent; with own numbers both readings come out with the same caller.
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
        self._own = frozenset(self._comparable(number) for number in own_numbers)

    def identify(
        self, session_id: str, from_: str | None, to: str | None, metadata: Callable[[], Mapping[str, Any]]
    ) -> tuple[Caller, Direction]:
        """The caller and the direction. Web: no numbers; unknown: neither number, or both, are our own.

        `metadata` is asked only where no number tells: reading it takes longer than all the rest.
        """
        side, direction = self._customer_side(from_, to)
        if side is not None and (number := self.e164(side)) is not None:
            return Caller(self.id_of_number(number), "phone", number), direction
        if self._metadata_key and (value := _scalar(metadata().get(self._metadata_key))):
            return Caller(self._id("metadata", value), "metadata"), direction
        return Caller(self._id("session", session_id), "session"), direction

    def id_of_number(self, e164: str) -> str:
        return self._id("phone", e164)

    def e164(self, number: str) -> str | None:
        """The number as E.164; None when it is anonymous, SIP or malformed."""
        if _E164.fullmatch(number):
            plain = "+" + number[1:]
            return None if plain in _WITHHELD else plain
        return self._parsed(number)

    def _customer_side(self, from_: str | None, to: str | None) -> tuple[str | None, Direction]:
        if from_ is None and to is None:
            return None, "web"
        if self._own:
            from_is_own = from_ is not None and self._comparable(from_) in self._own
            to_is_own = to is not None and self._comparable(to) in self._own
            if from_is_own and not to_is_own:
                return to, "outbound"
            if to_is_own and not from_is_own:
                return from_, "inbound"
        return from_, "unknown"

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
