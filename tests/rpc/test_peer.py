"""The peers of gRPC: addresses with ports, and what it says of a connection that is gone."""

import pytest

from authsvc.rpc.peer import End, end_of


@pytest.mark.parametrize(
    ("peer", "end"),
    [
        ("ipv4:192.0.2.1:443", ("192.0.2.1", 443)),
        ("ipv6:%5B2001:db8::1%5D:443", ("2001:db8::1", 443)),
        ("unix:/run/x", ("", 0)),
        ("unix:", ("", 0)),
        ("unknown", ("", 0)),
        ("", ("", 0)),
    ],
)
def test_the_end_of_a_peer(peer: str, end: End) -> None:
    """A call whose client went away has none, and is answered all the same."""
    assert end_of(peer) == end
