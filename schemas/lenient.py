"""Decoding what is really sent: one odd member never costs the rest of the body."""

import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

Members = dict[str, msgspec.Raw]

_NESTING = (dict, list, tuple, set)

NULL = msgspec.Raw(b"null")

# msgspec raises RecursionError on deep nesting and UnicodeDecodeError on bad UTF-8; neither is a MsgspecError.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_members = msgspec.json.Decoder(Members)


class LenientDecoder:
    """Decodes JSON objects into a struct whose fields all have defaults.

    The fast path is one typed decode. When a member has another shape than the struct says, every member is decoded
    by itself and the odd ones keep their default, so that a `duration` of `"long"` hides no cost and no chat. The same
    goes for the members of a member that is a struct: a telephony provider of an odd shape hides no caller.
    """

    def __init__(self, struct: type[S]) -> None:
        self._struct = struct
        self._whole = msgspec.json.Decoder(struct)
        hints = get_type_hints(struct, include_extras=True)
        self._fields = {
            field.encode_name: (field.name, _decode_of(hints[field.name])) for field in msgspec.structs.fields(struct)
        }

    def decode(self, raw: bytes | msgspec.Raw) -> S:  # type: ignore[type-var]
        """The struct. Raises one of `UNREADABLE` when `raw` is not a JSON object at all."""
        try:
            return self._whole.decode(raw)  # type: ignore[return-value]
        except UNREADABLE:
            return self.of_members(_members.decode(raw))

    def of_members(self, members: Members) -> S:  # type: ignore[type-var]
        """The struct, of an object that was taken apart already. Never raises."""
        plain = {}
        for name, (field, decode) in self._fields.items():
            if (raw := members.get(name)) is None:
                continue
            try:
                plain[field] = decode(raw)
            except UNREADABLE:
                continue  # the member stays verbatim in the event; here it is as good as absent
        return self._struct(**plain)  # type: ignore[return-value]


def _decode_of(hint: Any) -> Callable[[msgspec.Raw], Any]:
    """Of a struct, or a struct or None: leniently again."""
    for part in (hint, *get_args(hint)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return LenientDecoder(part).decode
    return msgspec.json.Decoder(hint).decode


def members_of(raw: bytes) -> Members:
    """The members of a JSON object, each verbatim; of a repeated name the last. Raises one of `UNREADABLE`."""
    return _members.decode(raw)


# Other text, other escapes and pairs, up to a surrogate's escape that stands alone. That has no meaning, but occurs
# where a text was cut inside an emoji, and would make the whole body unreadable. Nothing is tried twice: a body may be
# megabytes of escapes.
_LONE_SURROGATE = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
    rb"(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def mend_surrogates(raw: bytes) -> bytes:
    """The same JSON with each lone surrogate escape as U+FFFD, the character for what is no character."""
    kept: list[bytes] = []
    end = 0
    while found := _LONE_SURROGATE.match(raw, end):
        kept += (raw[end : found.start(1)], rb"\ufffd")
        end = found.end()
    return b"".join((*kept, raw[end:]))


def nests_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects, or what Python has like them, lie in each other deeper than that. It does not recurse.

    Where decoders and encoders give up depends on how deep their caller is; a limit of our own is the same everywhere.
    """
    layer = [value] if isinstance(value, _NESTING) else []
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _NESTING)
        ]
        if not layer:
            return False
    return any(layer)  # an empty one holds no further level
