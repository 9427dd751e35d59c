"""Sockets that listen."""

import asyncio
import errno
import socket

import pytest

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


async def test_a_listener_that_waits_for_files_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not try again afterwards, also if there are none at the end."""
    loop = asyncio.get_running_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    monkeypatch.setattr("authsvc.net.listener._PAUSE_SECONDS", 0.01)
    (listener,) = await listeners(ListenAddress("127.0.0.1", 0))
    listener.begin(socket.socket.close)
    with socket.create_connection(("127.0.0.1", listener.port)), monkeypatch.context() as patch:
        patch.setattr("socket.socket.accept", _no_files)
        listener._ready()
        first = listener._pause
        listener.close()
    assert first is not None
    assert first.cancelled()
    await asyncio.sleep(0.05)
    assert faults == []


def _no_files(_: socket.socket) -> None:
    raise OSError(errno.EMFILE, "too many files are open")
