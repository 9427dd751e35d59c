"""A listener without an address, between forks."""

import os
import select
import socket

import pytest

from authsvc.net.private_listener import PrivateListener


def test_forks_connect_in_either_order() -> None:
    """A connection that was made before anybody accepts waits, also when its process has ended since."""
    listener = PrivateListener()
    assert listener.accept() is None
    pid = os.fork()
    if not pid:
        connection = listener.connect()
        connection.sendall(b"hello")
        os._exit(0)
    os.waitpid(pid, 0)
    assert select.select([listener], [], [], 10)[0]
    accepted = listener.accept()
    assert accepted is not None
    with accepted:
        assert accepted.recv(9) == b"hello"
        assert accepted.recv(9) == b"", "the end of the process ends its connection"
        assert not os.get_inheritable(accepted.fileno())
    assert listener.accept() is None
    listener.close()


def test_connections_do_not_wait_without_bound() -> None:
    """While nobody accepts, one of them is refused, and works later."""
    listener = PrivateListener()
    waiting: list[socket.socket] = []

    def connect_many() -> None:
        waiting.extend(listener.connect() for _ in range(5000))

    with pytest.raises(BlockingIOError):
        connect_many()
    while (accepted := listener.accept()) is not None:
        accepted.close()
    waiting.append(listener.connect())
    for connection in waiting:
        connection.close()
    listener.close()
