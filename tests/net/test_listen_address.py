"""Addresses to listen on: how they are parsed, and how they are used."""

import pytest

from authsvc.net.listen_address import ListenAddress


def test_the_parts_of_an_address() -> None:
    """The brackets are not part of the host, and are added again for display."""
    address = ListenAddress.parse("[::1]:0080")
    assert (address.host, address.port) == ("::1", 80)
    assert str(address) == "[::1]:80"
    assert str(ListenAddress("localhost", 0)) == "localhost:0"


@pytest.mark.parametrize(
    ("listen", "reachable"),
    [
        ("127.0.0.1:0", "127.0.0.1:7"),
        ("0.0.0.0:50051", "127.0.0.1:7"),
        ("[::1]:0", "[::1]:7"),
        ("[::]:0", "[::1]:7"),
        ("localhost:0", "localhost:7"),
    ],
)
def test_the_printed_address_can_be_called(listen: str, reachable: str) -> None:
    """A listener on all addresses is called on this machine's own."""
    assert str(ListenAddress.parse(listen).with_port(7).reachable) == reachable


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("[::ffff:10.0.0.1]:1", False),
        ("localhost.example.org:1", False),
        ("myhost:1", False),
    ],
)
def test_what_is_loopback(listen: str, loopback: bool) -> None:
    """This machine's own addresses are; all addresses, and names, are not."""
    assert ListenAddress.parse(listen).is_loopback is loopback
