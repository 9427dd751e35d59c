"""Which socket of a shared port gets a connection, with real sockets."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from authsvc.net import reuseport
from tests.e2e.process import free_port, on_linux

_SIZE, _SECRET = 5, 0xBEEF


def _listeners(stack: ExitStack, family: socket.AddressFamily, host: str) -> list[socket.socket]:
    found: list[socket.socket] = []
    for _ in range(_SIZE):
        port = found[0].getsockname()[1] if found else 0
        both = family is socket.AF_INET6
        found.append(
            stack.enter_context(
                socket.create_server((host, port), family=family, reuse_port=True, dualstack_ipv6=both)
            )
        )
        found[-1].setblocking(False)
    return found


@pytest.fixture(
    params=[("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::", "::1")],
    ids=["ipv4", "mapped", "ipv6"],
)
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[list[socket.socket], str]]:
    """Sockets that share a port, and the host to connect to."""
    host, reached = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family is socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6")
    with ExitStack() as stack:
        yield _listeners(stack, family, host), reached


def _reached(listeners: list[socket.socket], host: str) -> tuple[int, int]:
    """Connect from a port that is not used again soon; return this port, and which socket got it."""
    source = free_port()
    with socket.create_connection(
        (host, listeners[0].getsockname()[1]), timeout=10, source_address=(host, source)
    ):
        for number, listener in enumerate(listeners):
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                continue
            return source, number
    raise AssertionError("no socket got the connection")


@on_linux
def test_who_gets_a_connection(shared: tuple[list[socket.socket], str]) -> None:
    """The natural socket, computed from the client's port; if it is excluded, one of the others."""
    listeners, host = shared
    for excluded in (set(), {1}, {0, 2, 4}, {0, 1, 2, 4}):
        reuseport.steer(listeners[2], _SIZE, _SECRET, excluded)
        for _ in range(20):
            source, number = _reached(listeners, host)
            expected = reuseport.natural(source, _SIZE, _SECRET)
            if expected in excluded:
                assert number not in excluded
            else:
                assert number == expected


@on_linux
def test_the_last_takes_the_number_of_one_that_closes(shared: tuple[list[socket.socket], str]) -> None:
    """And a number of no socket leads to some socket, not to none."""
    listeners, host = shared
    reuseport.steer(listeners[0], _SIZE, _SECRET, {0, 2, 3, 4})
    listeners.pop(1).close()
    for _ in range(5):
        # Of those that are left, it is the last.
        assert _reached(listeners, host)[1] == 3
    reuseport.steer(listeners[0], _SIZE, _SECRET, {0, 1, 2, 3})
    for _ in range(5):
        _reached(listeners, host)


@on_linux
def test_as_many_as_there_can_be(shared: tuple[list[socket.socket], str]) -> None:
    """The kernel takes the program of the most workers that the settings allow."""
    listeners, _ = shared
    for excluded in (range(0), range(256), range(511), range(0, 512, 2)):
        reuseport.steer(listeners[0], 512, _SECRET, excluded)


@pytest.mark.parametrize("secret", [0, 1, _SECRET, reuseport.MAX_SECRET - 1])
def test_natural_sockets_are_spread(secret: int) -> None:
    """The ports that a client gets one after the other, which are all even, lead to all sockets alike."""
    for size in (2, 3, 4, 16):
        for first in range(32_768, 60_000, 1024):
            found = [reuseport.natural(port, size, secret) for port in range(first, first + 1024, 2)]
            least, most = (pick(found.count(number) for number in range(size)) for pick in (min, max))
            assert least > 0.8 * most
