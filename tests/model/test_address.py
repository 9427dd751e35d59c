"""The client address of a call, behind trusted and other proxies."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.address import Proxies, network, normalized, site
from tests.addresses import ADDRESSES

TRUSTED = Proxies([ip_network(text) for text in ("10.0.0.0/8", "192.0.2.1", "fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        # No forwarding header.
        ("203.0.113.9", [], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        # A header from an untrusted peer is ignored.
        ("203.0.113.9", ["198.51.100.7"], "203.0.113.9"),
        ("192.0.2.2", ["198.51.100.7"], "192.0.2.2"),
        ("", ["198.51.100.7"], ""),
        # One trusted proxy, in either family.
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("192.0.2.1", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", ["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        # Everything to the left of the client can be forged by it.
        ("10.0.0.1", ["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["rubbish, 198.51.100.7"], "198.51.100.7"),
        # Proxies in a row, in one header or in several.
        ("10.0.0.1", ["198.51.100.7, 10.2.2.2,10.3.3.3"], "198.51.100.7"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.7, 10.2.2.2", "fd00::3"], "198.51.100.7"),
        # All are trusted: the first one.
        ("10.0.0.1", ["10.9.9.9, 10.2.2.2"], "10.9.9.9"),
        # Malformed: the last address that is known.
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, rubbish"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, rubbish, 10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", ["198.51.100.7,,10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", ["999.1.1.1"], "10.0.0.1"),
        ("10.0.0.1", ["9" * 10_000], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::7]rubbish"], "10.0.0.1"),
        # In the forms of some proxies.
        ("10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]"], "2001:db8::7"),
        ("10.0.0.1", ["2001:DB8:0::7"], "2001:db8::7"),
        ("10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::1"),
    ],
)
def test_whose_word_is_taken(peer: str, forwarded: list[str], client: str) -> None:
    """The right-most address that is not a trusted proxy, and never an untrusted header."""
    assert TRUSTED.client(peer, forwarded) == client


@pytest.mark.parametrize(("text", "kept"), ADDRESSES)
def test_an_address_has_one_spelling(text: str, kept: str) -> None:
    """That of RFC 5952; IPv4 in IPv6 is IPv4, a port and a zone are not part of it."""
    assert normalized(text) == kept
    assert Proxies().client(text, []) == kept


@pytest.mark.parametrize("text", ["2001:DB8::0001", " 203.0.113.7:4711"])
def test_an_address_is_not_written_anew_each_time(text: str) -> None:
    """Each verification has one, and formatting it takes Python microseconds."""
    assert normalized(text) is normalized(text)
    assert Proxies().client(text, []) is normalized(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("fd00::/8", "fd00::/8"),
        ("::1", "::1/128"),
        # IPv4 in IPv6.
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::FFFF:a00:0/104", "10.0.0.0/8"),
        ("::ffff:128.0.0.0/97", "128.0.0.0/1"),
        # Every address, alone or among others.
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/64", "0.0.0.0/0"),
        ("::/0", "0.0.0.0/0"),
    ],
)
def test_a_network_is_of_the_addresses_that_are_kept(text: str, kept: str) -> None:
    """One of IPv4-mapped addresses would never match."""
    assert network(text) == ip_network(kept)


@pytest.mark.parametrize("text", ["", "proxy", "10.0.0.1/8", "::ffff:10.0.0.1/104", "10.0.0.0/33"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError):
        network(text)


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_a_network_of_mapped_addresses_is_trusted(peer: str) -> None:
    """In every form of the peer's address."""
    assert Proxies([network("::ffff:10.0.0.0/104")]).client(peer, ["198.51.100.7"]) == "198.51.100.7"


def test_nobody_is_trusted_unless_named() -> None:
    """Without networks a header changes nothing, whichever peer it comes from."""
    assert Proxies().client("127.0.0.1", ["198.51.100.7"]) == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::", "2001:db8:1:3::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
    ],
)
def test_who_has_many_addresses_counts_once(address: str, counted: str) -> None:
    """An IPv6 customer has a /64, and counts as one address."""
    assert site(address) == counted


@given(st.text(), st.sampled_from(["198.51.100.7", "2001:db8::7"]))
def test_nothing_that_a_client_sends_hides_it(claimed: str, client: str) -> None:
    """Whatever the client adds before the address that the proxy appends, the proxy's address counts."""
    for forwarded in ([f"{claimed},{client}"], [claimed, client]):
        assert TRUSTED.client("10.0.0.1", forwarded) == client


@given(st.lists(st.text()))
def test_rubbish_is_an_address_all_the_same(forwarded: list[str]) -> None:
    """The result can be counted and stored, whatever the header contains."""
    ip_address(TRUSTED.client("10.0.0.1", forwarded))
