"""The credential of a webhook: a static header, since the provider signs nothing (provider facts, delivery)."""

import hmac
from collections.abc import Iterable

from pydantic import SecretStr

RawHeaders = Iterable[tuple[bytes, bytes]]

_SCHEME = b"bearer "


class Keys:
    """Any of several active secrets, so that one can be rotated while the other still works."""

    def __init__(self, header: str, secrets: Iterable[SecretStr]) -> None:
        self._header = header.lower().encode()
        self._secrets = tuple(secret.get_secret_value().encode() for secret in secrets)
        # `authorization` has a scheme by definition; a header of the user's own need not have one.
        self._scheme_required = self._header == b"authorization"

    def admits(self, headers: RawHeaders) -> bool:
        """Every secret is compared, each in constant time: how long it takes tells nothing about any of them."""
        presented = self._presented(headers)
        if presented is None:
            return False
        admitted = False
        for secret in self._secrets:
            admitted |= hmac.compare_digest(presented, secret)
        return admitted

    def _presented(self, headers: RawHeaders) -> bytes | None:
        for name, value in headers:
            if name == self._header:
                if value[:7].lower() == _SCHEME:
                    return value[7:].strip()
                return None if self._scheme_required else value.strip()
        return None
