"""Reserving a port for the workers."""

import errno
import socket

import pytest

from authsvc.net import port
from authsvc.net.listen_address import ListenAddress


def test_a_port_is_held_once() -> None:
    """Sockets that share it listen there; no other socket can bind it."""
    address = ListenAddress("127.0.0.1", 0)
    with port.hold(address) as held, socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        address = address.with_port(held.getsockname()[1])
        with socket.create_server((address.host, address.port), reuse_port=True):
            pass
        with pytest.raises(OSError, match="in use") as refused:
            port.hold(address.with_port(other.getsockname()[1]))
        assert refused.value.errno == errno.EADDRINUSE
