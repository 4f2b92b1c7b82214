"""Where a recording may be fetched from. Its URL is a guest's word: it must not lead into our own network."""

import socket
from collections.abc import Iterable
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from consumers.recordings.addresses import not_public
from consumers.recordings.names import not_public_name

# Signed URLs have some hundred characters; what is longer than most servers accept is no address.
MAX_URL_LENGTH = 8192

# Below these are the services of a system, two of which are the web. A request to any other (mail, a shell, a printer)
# would make us the one who sends what a guest wants to be sent.
LOWEST_OTHER_PORT = 1024


class Refused(Exception):
    """An address that we don't fetch from. The text says why; it never holds the URL, whose query may be a secret."""


class Guard:
    """Judges URLs, and addresses after names were resolved.

    `hosts`, when not empty, are the only ones allowed. `private_hosts` (`host:port`) may have addresses that are not
    public; they need to be among `hosts` too when those are set.
    """

    def __init__(self, hosts: Iterable[str] = (), private_hosts: Iterable[str] = ()) -> None:
        self._hosts = frozenset(_comparable(host) for host in hosts)
        self._private = frozenset(_host_and_port(address) for address in private_hosts)

    def check(self, url: str | URL) -> URL:
        """The parsed URL. Raises `Refused`. A name in it is not resolved yet: `CheckedResolver` does that."""
        url = url if isinstance(url, URL) else _parsed(url)
        host, port = _host_of(url)
        if self._hosts and _comparable(host) not in self._hosts:
            raise Refused(f"the host {host[:100]} is not in RINGLOG_RECORDING_HOSTS")
        if (_comparable(host), port) in self._private:
            return url
        if _looks_numeric(host):
            self.check_address(host, port, host)
        elif _comparable(host) not in self._hosts and (what := not_public_name(host.lower())):
            raise Refused(f"the host {host[:100]} is {what}")
        if port < LOWEST_OTHER_PORT and port not in (80, 443):
            raise Refused(f"port {port} is not asked: only 80, 443 and those from {LOWEST_OTHER_PORT} on")
        return url

    def check_address(self, host: str, port: int, address: str) -> None:
        """Whether `host` may be reached at `address`. Raises `Refused`."""
        if (_comparable(host), port) in self._private:
            return
        try:
            parsed = ip_address(address)
        except ValueError:
            raise Refused(f"the host {host[:100]} is an address in no usual notation") from None
        if what := not_public(parsed):
            raise Refused(f"the host {host[:100]} has the address {parsed}, which is not public: {what}")


class CheckedResolver(AbstractResolver):
    """Resolves names for connections, and refuses what the guard refuses.

    The connection is made to the very addresses that were checked, so a name that resolves differently the next time
    gains nothing. One bad address among good ones refuses the name: a host with a foot in our network isn't a guest's.
    """

    def __init__(self, guard: Guard, resolver: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises `Refused`, or `OSError` when the name has no address."""
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            self._guard.check_address(host, port, result["host"])
        return results

    async def close(self) -> None:
        await self._resolver.close()


def _parsed(text: str) -> URL:
    if len(text) > MAX_URL_LENGTH:
        raise Refused(f"the address has {len(text)} characters; at most {MAX_URL_LENGTH} are accepted")
    if any(character <= " " or character == "\x7f" for character in text):
        raise Refused("the address holds spaces or control characters")
    try:
        # What is written properly goes out as it is: quoting anew can break a signature.
        return URL(text, encoded=text.isascii())
    except ValueError:
        raise Refused("the address is no URL") from None


def _host_of(url: URL) -> tuple[str, int]:
    """With its port. Raises `Refused` for what no proper URL of the web has."""
    if url.scheme not in ("http", "https"):
        raise Refused(f"only http and https are fetched, not {url.scheme[:20] or 'a relative address'}")
    try:
        host, port, authority = url.raw_host, url.port, url.raw_authority
    except ValueError:  # yarl looks at the port when it is asked
        raise Refused("the address is no URL") from None
    if "@" in authority:  # also an empty one: readers disagree on what stands before it
        raise Refused("the address carries a user or a password")
    if not host or not port:
        raise Refused("the address has no host")
    if "[" in authority and ":" not in host:
        raise Refused(f"the host {host[:100]} stands in brackets, and is no IPv6 address")
    return host, port


def _looks_numeric(host: str) -> bool:
    """Whether anything would take the host for an address: IPv6, or a last label that is a number in any base."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    return ":" in host or last.isdigit() or last.startswith("0x")


def _comparable(host: str) -> str:
    return host.lower().rstrip(".").removeprefix("[").removesuffix("]")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return _comparable(host), int(port)
