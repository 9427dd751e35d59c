"""The networks that a credential may be used from."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.address import normalized
from authsvc.model.allowed_networks import AllowedNetworks, checked_networks, widens
from authsvc.model.errors import InvalidArgument

V4 = st.ip_addresses(v=4).flatmap(
    lambda a: st.integers(0, 32).map(lambda n: str(ip_network((int(a) >> 32 - n << 32 - n, n))))
)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ()),
        (["192.0.2.1"], ("192.0.2.1/32",)),
        ([" 10.0.0.0/8 ", "10.0.0.0/8"], ("10.0.0.0/8",)),
        (["2001:DB8::/32", "192.0.2.0/24", "10.0.0.0/8"], ("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32")),
        (["::ffff:10.1.0.0/112"], ("10.1.0.0/16",)),
        (["::ffff:0:0/96"], ("0.0.0.0/0",)),
        (["::/0"], ("::/0",)),
        (["::/64", "0.0.0.0/0"], ("0.0.0.0/0", "::/64")),
    ],
)
def test_normal_form(texts: list[str], expected: tuple[str, ...]) -> None:
    assert checked_networks(texts, "allowed_networks") == expected


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("10.0.0.0/33", "192.0.2.0/24"),
        ("office", "192.0.2.0/24"),
        ("", "192.0.2.0/24"),
        ("10.0.0.0-10.0.0.9", "192.0.2.0/24"),
        ("10.0.0.0/8, 192.0.2.0/24", "192.0.2.0/24"),
        ("fe80::1%eth0", "192.0.2.0/24"),
    ],
)
def test_bad_networks_name_the_field_and_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_networks(["192.0.2.0/24", text], "key.allowed_networks")
    [violation] = caught.value.violations
    assert violation.field == "key.allowed_networks[1]"
    assert remedy in violation.description


@pytest.mark.parametrize(
    ("of_key", "of_owner", "address", "expected"),
    [
        (["192.0.2.0/24"], [], "192.0.2.255", True),
        (["192.0.2.0/24"], [], "192.0.3.0", False),
        (["192.0.2.0/24"], ["192.0.2.7/32"], "192.0.2.7", True),
        (["192.0.2.0/24"], ["192.0.2.7/32"], "192.0.2.8", False),
        ([], ["2001:db8::/32"], "2001:db8::1", True),
        ([], ["2001:db8::/32"], "2001:db9::1", False),
        (["0.0.0.0/0"], [], "198.51.100.1", True),
        (["0.0.0.0/0"], [], "2001:db8::1", False),
        (["::/0"], [], "2001:db8::1", True),
        (["::/0"], [], "198.51.100.1", False),
        (["192.0.2.0/24"], [], "", False),
        (["192.0.2.0/24"], [], "rubbish", False),
        (["192.0.2.0/24"], [], "192.0.2.1\0", False),
    ],
)
def test_contain(of_key: list[str], of_owner: list[str], address: str, *, expected: bool) -> None:
    assert AllowedNetworks(of_key, of_owner).contain(address) is expected


@given(st.lists(V4, min_size=1, max_size=4), st.ip_addresses())
def test_contain_is_what_the_standard_library_says(networks: list[str], address: object) -> None:
    text = normalized(str(address))
    found = ip_address(text)
    expected = any(found in ip_network(network) for network in networks if found.version == 4)
    assert AllowedNetworks(networks, ()).contain(text) is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [], False),
        ([], ["10.0.0.0/8"], False),
        (["10.0.0.0/8"], [], True),
        (["10.0.0.0/8"], ["10.1.0.0/16"], False),
        (["10.1.0.0/16"], ["10.0.0.0/8"], True),
        (["10.0.0.0/8"], ["10.1.0.0/16", "2001:db8::/32"], True),
        (["10.0.0.0/8", "2001:db8::/32"], ["2001:db8::/48"], False),
    ],
)
def test_widens(before: list[str], after: list[str], *, expected: bool) -> None:
    assert widens(before, after) is expected
