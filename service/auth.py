"""The credential of a webhook: a static header, since the provider signs nothing (provider facts, delivery)."""

import hmac
from collections.abc import Iterable

from pydantic import SecretStr

from service.responses import Header, error_body

RawHeaders = Iterable[tuple[bytes, bytes]]

_SCHEME = b"bearer "


class Keys:
    """Any of several active secrets, so that one can be rotated while the other still works."""

    def __init__(self, header: str, secrets: Iterable[SecretStr], setting: str = "RINGLOG_WEBHOOK_KEYS") -> None:
        """`setting` is where the secrets come from, for who has to be told."""
        self._header = header.lower().encode()
        self._secrets = tuple(secret.get_secret_value().encode() for secret in secrets)
        # `authorization` has a scheme by definition; a header of the user's own need not have one.
        self._scheme_required = self._header == b"authorization"
        form = "Bearer <secret>" if self._scheme_required else "<secret>"
        self.refusal = error_body(
            f"The credential is missing or wrong: send `{header.lower()}: {form}` with a secret of {setting}.",
            "unauthorized",
        )
        self.challenge: tuple[Header, ...] = ((b"www-authenticate", b"Bearer"),) if self._scheme_required else ()

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
