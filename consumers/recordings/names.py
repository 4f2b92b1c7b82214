"""Which names a guest may ask us to resolve. Stricter than need be: the addresses behind a name are judged as well."""

import re

# What DNS carries. Source: RFC 1035, 2.3.4.
MAX_NAME_LENGTH = 253

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")

# Names end so inside of networks, and never on the internet. Sources: RFC 6761, 6762, 8375; ICANN's resolutions on
# `internal`, `home` and `corp`; Kubernetes' `svc`.
_INTERNAL = frozenset("localhost localdomain local internal intranet private corp home lan svc arpa".split())

# Answered inside of clouds only, by the service that hands out a machine's credentials.
_METADATA = frozenset("metadata.goog metadata.packet.net metadata.platformequinix.com metadata.tencentyun.com".split())


def not_public_name(host: str) -> str | None:
    """What the name is instead of one of the internet's, or None. `host` in lower case, as it would be resolved."""
    if len(host.removesuffix(".")) > MAX_NAME_LENGTH or not _NAME.fullmatch(host):
        return "no name that DNS could know"
    name = host.removesuffix(".")
    if "." not in name:
        return "a name without a domain, which only an internal network knows"
    if name.rpartition(".")[2] in _INTERNAL:
        return "a name of internal networks"
    return "a cloud's metadata service" if name in _METADATA else None
