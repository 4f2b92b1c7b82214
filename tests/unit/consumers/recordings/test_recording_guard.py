"""A recording's URL is a guest's word: nothing in our own network is ever asked, and the reason is said."""

from ipaddress import ip_address

import pytest
from aiohttp.resolver import ThreadedResolver

from consumers.recordings.addresses import not_public
from consumers.recordings.guard import CheckedResolver, Guard, Refused
from tests.unit.consumers.recordings.hostile_names import Names

NOT_PUBLIC = {
    "0.0.0.0": "this network",  # noqa: S104 - nothing is bound
    "10.1.2.3": "private",
    "100.64.0.1": "carrier-grade NAT",
    "100.100.100.200": "carrier-grade NAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "a cloud's metadata service",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "special-purpose",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarking",
    "203.0.113.9": "documentation",
    "224.0.0.1": "multicast",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::ffff:127.0.0.1": "IPv4-mapped",
    "::ffff:8.8.8.8": "IPv4-mapped",
    "::127.0.0.1": "IPv4-compatible",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b:1::a00:1": "NAT64",
    "100::1": "discard",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "Teredo",
    "2001:db8::1": "documentation",
    "2002:7f00:1::1": "6to4",
    "2400:cb00::5efe:7f00:1": "ISATAP",
    "2400:cb00::200:5efe:a00:1": "ISATAP",
    "3fff::1": "documentation",
    "4000::1": "not global unicast",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "bound to an interface",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
}


@pytest.mark.parametrize(("address", "what"), NOT_PUBLIC.items())
def test_an_address_that_is_not_public_is_known_for_what_it_is(address: str, what: str) -> None:
    assert not_public(ip_address(address)) == what


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_a_public_address_is_public(address: str) -> None:
    assert not_public(ip_address(address)) is None


def test_a_proper_url_goes_out_as_it_came() -> None:
    url = "https://Example.com/a%2Fb%20c.wav?X-Sig=a%2Bb/c%3D&x=%41"
    assert str(Guard().check(url)) == url


def test_only_the_hosts_of_the_setting_when_it_is_set() -> None:
    guard = Guard(hosts=["Good.example"])
    guard.check("https://good.EXAMPLE./a")
    for url in ("https://evil.example/", "https://good.example.evil.example/", "https://sub.good.example/"):
        with pytest.raises(Refused, match="not in RINGLOG_RECORDING_HOSTS"):
            guard.check(url)


def test_a_private_host_is_exempt_with_its_port_only() -> None:
    guard = Guard(private_hosts=["127.0.0.1:8000", "[::1]:8001"])
    guard.check("http://127.0.0.1:8000/")
    guard.check("http://[::1]:8001/")
    for url in ("http://127.0.0.1:8001/", "http://127.0.0.1/", "http://127.0.0.2:8000/", "http://[::1]:8000/"):
        with pytest.raises(Refused, match="loopback"):
            guard.check(url)


async def test_a_name_is_checked_each_time_it_is_resolved() -> None:
    resolver = CheckedResolver(Guard(), Names(["1.1.1.1"], ["127.0.0.1"]))
    assert [found["host"] for found in await resolver.resolve("rebound.example", 80)] == ["1.1.1.1"]
    with pytest.raises(Refused, match=r"rebound\.example has the address 127\.0\.0\.1, .*loopback"):
        await resolver.resolve("rebound.example", 80)


async def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(Refused, match="private"):
        await CheckedResolver(Guard(), Names(["1.1.1.1", "10.0.0.1"])).resolve("mixed.example", 443)


async def test_a_real_name_of_this_machine_is_refused() -> None:
    with pytest.raises(Refused, match=r"localhost has the address .*loopback"):
        await CheckedResolver(Guard(), ThreadedResolver()).resolve("localhost", 80)
