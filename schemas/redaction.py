"""Other people's credentials in `agent_config`, replaced before anything is written anywhere."""

import functools
import itertools
import re
from decimal import Decimal
from typing import Any

import msgspec

REDACTED = "[redacted]"

# Everything below these names is a credential, whatever it is called. Source: provider facts, shapes.
_WHOLE = frozenset(("header", "headers", "credentials"))

_SECRET_WORDS = frozenset(
    "secret secrets token password passwords passwd pwd authorization credential credentials apikey apikeys".split()
)

# Words of a name: `apiKey`, `api_key`, `API-Key` and `x-api-key` all hold "api" and "key".
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

MAX_REMEMBERED_CHARACTERS = 64
MAX_REMEMBERED_BYTES = 32 * 1024  # of a configuration: 256 of these, before and after, are 16 MiB

# No name reaches over the start of the next one, or each of a thousand question marks would search for all of them.
_URL_PARAMETER = re.compile(r"(?<=[?&;])([^?=&#;\s]+)=([^&#;\s]+)")
_URL_USER = re.compile(r"(?<=://)[^/?#\s@]+(?=@)")

# A secret in a query goes by more names than a field: signatures and keys of one word.
_URL_SECRET_WORDS = _SECRET_WORDS | {"key", "sig", "signature", "auth", "pass", "jwt"}

# Numbers keep their literal: 0.10 stays 0.10, and what no float can hold passes through.
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def redact_agent_config(raw: msgspec.Raw) -> msgspec.Raw:
    """The same JSON value with its secrets replaced by `"[redacted]"`.

    Raises one of `schemas.lenient.UNREADABLE` when it can't be read: what can't be read can't be redacted.
    """
    # An agent's calls all come with its configuration, which seldom changes.
    content = bytes(raw)
    return msgspec.Raw(_known_config(content) if len(content) <= MAX_REMEMBERED_BYTES else _config(content))


def _config(content: bytes) -> bytes:
    return _encoder.encode(_redacted(_decoder.decode(content)))


_known_config = functools.lru_cache(maxsize=256)(_config)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact_url(value) if "://" in value or "?" in value else value  # "/hook?token=..." has no scheme
    if isinstance(value, dict):
        return {name: _emptied(inner) if _hides(name) else _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(inner) for inner in value]
    return value


def _hides(name: str) -> bool:
    """Whether what is below that name is a credential."""
    # The names of a configuration are few and come with every call. A long one is no name, and must not be kept.
    return _hides_known(name) if len(name) <= MAX_REMEMBERED_CHARACTERS else _hides_any(name)


def _hides_any(name: str) -> bool:
    return name.lower() in _WHOLE or is_secret_name(name)


_hides_known = functools.lru_cache(maxsize=4096)(_hides_any)


def _emptied(value: Any) -> Any:
    """Strings are replaced, the structure stays: which headers there were is worth knowing and no secret."""
    if isinstance(value, dict):
        return {name: _emptied(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_emptied(inner) for inner in value]
    return REDACTED if isinstance(value, str) else value


def is_secret_name(name: str) -> bool:
    """Whether the words of a name say secret. Words, not letters: `max_tokens` is a number, not a token."""
    return _says(name, _SECRET_WORDS)


def redact_url(text: str) -> str:
    """Credentials before the host, and the values of query parameters whose names say secret."""

    def value(found: re.Match[str]) -> str:
        return f"{found[1]}={REDACTED}" if _says(found[1], _URL_SECRET_WORDS) else found[0]

    return _URL_USER.sub(REDACTED, _URL_PARAMETER.sub(value, text))


def _says(name: str, secret: frozenset[str]) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    if not secret.isdisjoint(words):
        return True
    pairs = set(itertools.pairwise(words))
    return ("api", "key") in pairs or ("api", "keys") in pairs
