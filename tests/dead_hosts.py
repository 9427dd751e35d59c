"""Hosts of a database URL that cannot be used: silent ones, ones that lose packets, unknown ones."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

#: A name that the resolver does not know (RFC 6761).
UNKNOWN = "nobody.invalid"


@contextmanager
def silent(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A listener whose connections are accepted, by the kernel, and that says nothing."""
    with _listener(host, 0, 128) as listener:
        listener.setblocking(False)
        yield listener


@contextmanager
def swallowing(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """A listener whose backlog is full, so that the kernel drops the packets of whoever connects."""
    with _listener(host, port, 0) as listener, contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(socket.socket(listener.family))
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            if not _is_connected(client):
                break
        else:
            raise AssertionError("the backlog does not fill")
        yield listener


def _is_connected(client: socket.socket) -> bool:
    """Return whether the handshake is done. On the loopback it is done at once, or never."""
    try:
        client.getpeername()
    except OSError:
        return False
    return True


def accepted(listener: socket.socket) -> int:
    """Close the connections that a silent listener has got, and return how many they were."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def at(listener: socket.socket) -> str:
    """Return the address of a listener as in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def behind(database_url: str, *hosts: str) -> str:
    """Return the URL of a database with other hosts before its own."""
    url = urlsplit(database_url)
    login, _, own = url.netloc.rpartition("@")
    return url._replace(netloc=f"{login}@{','.join((*hosts, own))}").geturl()


@contextmanager
def _listener(host: str, port: int, backlog: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
        yield listener
