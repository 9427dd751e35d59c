"""Which URLs webhooks may have, and which addresses are called."""

from ipaddress import IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from authsvc.model.address import network
from authsvc.notifications.webhooks.addresses import AddressRules, url_fault
from authsvc.notifications.webhooks.target import read_target

_PRIVATE = [network("10.1.0.0/16"), network("fd00:1::/32"), network("127.0.0.0/8")]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "HTTPS://Example.COM/a/b?c=d&e=%20f",
        "https://example.com:8443/hooks",
        "https://example.com?token=1",
        "https://exämple.org/",
        "https://例子.公司/",
        "https://xn--exmple-cua.org/",
        "https://r3---sn-abc.example.com/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:443/",
        "https://1.example.com/",
        "https://example.com/" + "a" * (2048 - len("https://example.com/")),
    ],
)
def test_public_urls(url: str) -> None:
    assert url_fault(url, ()) == ""


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "is not a URL"),
        ("example.com", "is not a URL"),
        ("ftp://example.com/", "is not a URL"),
        ("https:example.com", "is not a URL"),
        ("https:///hooks", "has no host"),
        ("//example.com/", "is not a URL"),
        ("http://example.com/", "is not encrypted"),
        ("http://8.8.8.8/", "is not encrypted"),
        ("https://user@example.com/", "has a user name"),
        ("https://user:secret@example.com/", "has a user name"),
        ("https://good.example\\@10.0.0.1/", "has a user name"),
        ("https://example.com/#top", "has a fragment"),
        ("https://example.com/#", "has a fragment"),
        ("https://exam ple.com/", "has spaces"),
        (" https://example.com/", "has spaces"),
        ("https://example.com/\n", "has spaces"),
        ("https://exa\tmple.com/", "has spaces"),
        ("https://example.com/a\x00", "has spaces"),
        ("https://example.com/a\r\nHost: b", "has spaces"),
        ("https://exam\u200bple.com/", "has spaces"),
        ("https://example.com/\u202ea", "has spaces"),
        ("https://example.com/ä", "percent-encode"),
        ("https://example.com/a\\b", "percent-encode"),
        ("https://example.com/%zz", "percent-encode"),
        ("https://example.com/?a=<b>", "percent-encode"),
        ("https://example.com/" + "a" * 2048, "is too long"),
        ("https://example.com:/", "has the port"),
        ("https://example.com:0/", "has the port"),
        ("https://example.com:65536/", "has the port"),
        ("https://example.com:0443/", "has the port"),
        ("https://example.com:٤٤٣/", "has the port"),
        ("https://example.com:25/", "is for another protocol"),
        ("https://example.com:22/", "is for another protocol"),
        ("https://example.com:6000/", "is for another protocol"),
        ("https://a:b:443/", "has a host that is not valid"),
        ("https://2001:db8::1/", "written in brackets"),
        ("https://[2001:db8::1/", "has a host that is not valid"),
        ("https://[fe80::1%25eth0]/", "has an address with a zone"),
        ("https://[fe80::1%eth0]/", "has an address with a zone"),
        ("https://[::ffff:127.0.0.1]/", "write 127.0.0.1"),
        ("https://[::ffff:8.8.8.8]/", "write 8.8.8.8"),
        ("https://[2606:4700:4700:0::1111]/", "write [2606:4700:4700::1111]"),
        ("https://[v1.x]/", "not an IPv6 address"),
        ("https://example.com./", "has a dot at the end"),
        ("https://127.0.0.1./", "has a dot at the end"),
        ("https://./", "has a dot at the end"),
        ("https://a..b/", "not a valid name"),
        ("https://-a.example/", "not a valid name"),
        ("https://a_b.example/", "not a valid name"),
        ("https://%31%30.0.0.1/", "not a valid name"),
        ("https://*.example.com/", "not a valid name"),
        ("https://" + "a" * 64 + ".example/", "not a valid name"),
        ("https://" + "a." * 127 + "example/", "not a valid name"),
        # An address, as programs read it: decimal, octal, hexadecimal, with fewer than four numbers.
        ("https://2130706433/", "four decimal numbers"),
        ("https://0x7f000001/", "four decimal numbers"),
        ("https://0x7f.0.0.1/", "four decimal numbers"),
        ("https://0x7f.1/", "four decimal numbers"),
        ("https://017700000001/", "four decimal numbers"),
        ("https://0177.0.0.1/", "four decimal numbers"),
        ("https://127.1/", "four decimal numbers"),
        ("https://127.0.1/", "four decimal numbers"),
        ("https://0/", "four decimal numbers"),
        ("https://127.0.0.01/", "four decimal numbers"),
        ("https://127.0.0.256/", "four decimal numbers"),
        ("https://1.2.3.4.5/", "four decimal numbers"),
        ("https://example.0x1/", "four decimal numbers"),
        # The same in characters that are looked up as digits and dots.
        ("https://127。0。0。1/", "not public"),
        ("https://①②⑦.0.0.1/", "not public"),
        ("https://\uff11\uff12\uff17.\uff11/", "four decimal numbers"),
        ("https://ⓛocalhost/", "has a local name"),
        ("https://localhost/", "has a local name"),
        ("https://LOCALHOST:8443/", "has a local name"),
        ("https://a.localhost/", "has a local name"),
        ("https://printer.local/", "has a local name"),
        ("https://metadata.google.internal/", "has a local name"),
        ("https://router.home.arpa/", "has a local name"),
        ("https://intranet/", "has a local name"),
        ("https://127.0.0.1/", "not public"),
        ("https://[::1]/", "not public"),
        ("https://[::]/", "not public"),
        ("https://169.254.169.254/latest/meta-data/", "not public"),
        ("https://[fd00:ec2::254]/", "not public"),
        ("http://169.254.169.254/", "not public"),
    ],
)
def test_urls_that_are_refused(url: str, fault: str) -> None:
    assert fault in url_fault(url, ())
    # A look-up of something else than what was checked would be a hole: the caller reads URLs the same way.
    if "not public" not in fault and "local name" not in fault and "not encrypted" not in fault:
        with pytest.raises(ValueError):
            read_target(url)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://10.1.2.3/", ""),
        ("https://10.1.2.3/", ""),
        ("http://10.2.2.3/", "not public"),
        ("https://10.2.2.3/", "not public"),
        ("http://8.8.8.8/", "is not encrypted"),
        ("http://[fd00:1::1]:8080/", ""),
        ("http://[fd00:2::1]:8080/", "not public"),
        # Decided by the addresses that they resolve to.
        ("http://hooks.default.svc.cluster.local/", ""),
        ("http://localhost:8080/", ""),
        ("http://receiver:8080/", ""),
        ("http://user@receiver/", "has a user name"),
        ("http://0x7f.1/", "four decimal numbers"),
    ],
)
def test_networks_of_the_operator(url: str, fault: str) -> None:
    found = url_fault(url, _PRIVATE)
    assert fault in found
    assert bool(found) == bool(fault)


_REFUSED = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254"),
    *("169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *(
        "100.100.100.200",
        "168.63.129.16",
        "::",
        "::1",
        "::2",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
    ),
    *("fd00:ec2::254", "fd20:ce::254", "ff02::1", "ff0e::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1"),
    *("2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "4000::1", "1::1"),
    "::ffff:10.0.0.1",  # IPv4-mapped
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "::127.0.0.1",  # IPv4-compatible
    "::8.8.8.8",
    "64:ff9b::10.0.0.1",  # NAT64
    "64:ff9b::169.254.169.254",
    "64:ff9b::168.63.129.16",
    "64:ff9b::100.100.100.200",
    "64:ff9b:1::8.8.8.8",  # NAT64 of a local prefix
    "2002:a00:1::1",  # 6to4 of 10.0.0.1
    "2002:7f00:1::",
    "2001:0:a00:1::1",  # Teredo
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # of 10.0.0.1
    "2606:4700::5efe:10.0.0.1",  # ISATAP
    "2606:4700::200:5efe:127.0.0.1",
    "fe80::5efe:8.8.8.8",
    "",
    "example.com",
    "127.1",
    "0x7f000001",
    "2130706433",
]


@pytest.mark.parametrize("address", _REFUSED)
def test_addresses_that_are_not_called(address: str) -> None:
    assert not AddressRules().allows(address, is_plain=False)
    assert not AddressRules().allows(address, is_plain=True)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.0.1"),
        *("172.32.0.1", "192.0.1.1", "192.167.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255"),
        *(
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2620:fe::fe",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ),
        "2606:4700::5efe:8.8.8.8",
    ],
)
def test_public_addresses(address: str) -> None:
    assert AddressRules().allows(address, is_plain=False)
    assert not AddressRules().allows(address, is_plain=True)


@given(st.ip_addresses())
def test_what_python_calls_private_is_not_called(address: object) -> None:
    """The tables of the standard library are another reading of the same registries."""
    found = ip_address(str(address))
    if isinstance(found, IPv6Address):
        assume(found not in IPv6Network("64:ff9b::/96"))  # Judged by the IPv4 address in it.
        found = found.ipv4_mapped or found
    if not found.is_global or found.is_multicast or found.is_reserved:
        assert not AddressRules().allows(str(address), is_plain=False)


@pytest.mark.parametrize(
    ("text", "address", "allowed"),
    [
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.0.0/16", "::ffff:10.1.2.3", True),
        ("10.1.0.0/16", "10.2.2.3", False),
        ("10.1.0.0/16", "64:ff9b::10.1.2.3", False),
        ("fd00:1::/32", "fd00:1::1", True),
        ("fe80::/10", "fe80::1", True),
        ("fe80::/10", "fe80::1%eth0", False),
        # What hands out credentials has to be named by itself.
        ("169.254.0.0/16", "169.254.169.254", False),
        ("100.64.0.0/10", "100.100.100.200", False),
        ("fd00::/8", "fd00:ec2::254", False),
        ("fd00::/8", "fd20:ce::254", False),
        ("fd00::/8", "fd00:ec2::23", False),
        ("fd00::/8", "fd00:42::42", False),
        ("169.254.0.0/16", "169.254.170.23", False),
        ("169.254.0.0/16", "169.254.42.42", False),
        ("169.254.0.0/16", "169.254.0.23", False),
        ("fd00::/8", "fd00::1", True),
        ("169.254.169.254/32", "169.254.169.254", True),
    ],
)
def test_addresses_in_networks_of_the_operator(text: str, address: str, allowed: bool) -> None:
    rules = AddressRules([network(text)])
    assert rules.allows(address, is_plain=False) is allowed
    assert rules.allows(address, is_plain=True) is allowed
