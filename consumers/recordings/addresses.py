"""Which addresses are the public internet's. Stricter than `ipaddress.is_global`, which lets embedded ones through."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

# Source: IANA's special-purpose address registries; the clouds' documentation for their metadata services.
_IPV4 = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata service"),  # Azure's; a public address by its number
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "special-purpose"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "special-purpose"),
        ("192.52.193.0/24", "special-purpose"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "special-purpose"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

# All that is in use on the internet lies in here; what doesn't is refused without being known.
_GLOBAL_UNICAST = IPv6Network("2000::/3")

_IPV6 = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discard"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "special-purpose"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "special-purpose"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

# The middle of an interface identifier that carries an IPv4 address (RFC 5214), under any prefix.
_ISATAP = frozenset((0x0000_5EFE, 0x0200_5EFE))


def not_public(address: Address) -> str | None:
    """What the address is instead of public (`"loopback"`, `"NAT64"`, ...), or None when it is public."""
    what = _ipv4(address) if isinstance(address, IPv4Address) else _ipv6(address)
    # Python's own registry comes last: what a later version learns is refused without us.
    return what or (None if address.is_global else "not public")


def _ipv4(address: IPv4Address) -> str | None:
    return next((what for network, what in _IPV4 if address in network), None)


def _ipv6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "bound to an interface"
    for network, what in _IPV6:
        if address in network:
            return what
    if address not in _GLOBAL_UNICAST:
        return "not global unicast"
    return "ISATAP" if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP else None
