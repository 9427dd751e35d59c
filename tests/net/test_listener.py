"""Sockets that listen."""

import socket

from authsvc.net.listen_address import ListenAddress
from authsvc.net.listener import listeners

_MANY = 200


async def test_all_that_have_connected_are_accepted_at_the_end() -> None:
    """Also more than are accepted in one wake-up: the kernel would reset the others."""
    (listener,) = await listeners(ListenAddress("127.0.0.1", 0))
    accepted: list[socket.socket] = []
    listener.begin(accepted.append)
    clients = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(_MANY)]
    listener.close()
    assert len(accepted) == _MANY
    for each in (*accepted, *clients):
        each.close()
