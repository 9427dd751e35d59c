"""The sockets of our gRPC server, closed in an order that gRPC has no call for.

When a gRPC server stops, calls that have arrived and not begun end as CANCELLED, which clients must not
retry, and it accepts connections until that moment. So we stop listening first, and close the connections
ourselves at the end. Clients see a lost connection as UNAVAILABLE, and connect to another worker.

Mechanism: our sockets are found among the file descriptors of the process by their port. Where descriptors
cannot be listed nothing is done, and gRPC stops in its own way.

Bound: a connection that waits to be accepted when we stop listening is reset; its client sees UNAVAILABLE,
too.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from authsvc.rpc.peer import End


def listener(port: int) -> Callable[[], socket.socket] | None:
    """Return what makes a copy of the socket that listens; None if there are several, or none is found."""
    found = [descriptor for descriptor, each in _sockets(port) if _listens(each)]
    return partial(_copied, found[0]) if len(found) == 1 else None


def leave(port: int) -> None:
    """Stop listening: new connections go to another worker, or are refused."""
    for descriptor, found in _sockets(port):
        if _listens(found):
            # gRPC owns the descriptor and closes it later; until then it is an idle socket.
            with socket.socket(type=socket.SOCK_DGRAM) as idle:
                os.dup2(idle.fileno(), descriptor, inheritable=False)


def hang_up(port: int, wanted: Callable[[End], bool]) -> None:
    """Close the connections whose other ends are wanted.

    What gRPC has written to a socket is still sent if the client reads it; what gRPC itself holds is lost.
    """
    for _, found in _sockets(port):
        end = _end(found)
        if end is not None and wanted(end):
            with suppress(OSError):  # the client has closed it already
                found.shutdown(socket.SHUT_RDWR)


class Ends:
    """The other ends of all connections. Each connection is asked for its own once."""

    def __init__(self) -> None:
        # By descriptor, and the number of what is open there.
        self._found: dict[tuple[int, int], End | None] = {}

    def read(self, port: int) -> list[End]:
        """Return those that are open."""
        found: dict[tuple[int, int], End | None] = {}
        for descriptor in _descriptors(port):
            with suppress(OSError):
                place = descriptor, os.fstat(descriptor).st_ino
                found[place] = self._found[place] if place in self._found else _end_at(descriptor, port)
        self._found = found
        return [end for end in found.values() if end is not None]


def _end_at(descriptor: int, port: int) -> End | None:
    with suppress(OSError), _shared(descriptor) as found:
        return _end(found) if _is_at(found, port) else None
    return None


def _end(found: socket.socket) -> End | None:
    try:
        address, port = found.getpeername()[:2]
    except OSError:  # it listens, or is closed
        return None
    return str(address).removeprefix("::ffff:"), int(port)


def _listens(found: socket.socket) -> bool:
    return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _sockets(port: int) -> Iterator[tuple[int, socket.socket]]:
    """Yield the descriptors at a port of ours, each with a socket of its own that shares the connection."""
    for descriptor in _descriptors(port):
        with suppress(OSError), _shared(descriptor) as found:
            if _is_at(found, port):
                yield descriptor, found


def _descriptors(port: int) -> list[int]:
    if not port:  # the server never started
        return []
    try:
        return sorted(int(path.name) for path in Path("/dev/fd").iterdir())
    except OSError:
        return []


def _is_at(found: socket.socket, port: int) -> bool:
    return found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port


@contextmanager
def _shared(descriptor: int) -> Iterator[socket.socket]:
    with _copied(descriptor) as found:
        yield found


def _copied(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
