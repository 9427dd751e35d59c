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
from pathlib import Path

from authsvc.rpc.peer import End


def leave(port: int) -> None:
    """Stop listening: new connections go to another worker, or are refused."""
    for descriptor, found in _sockets(port):
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
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


def ends(port: int) -> list[End]:
    """Return the other ends of all connections."""
    return [end for _, found in _sockets(port) if (end := _end(found)) is not None]


def _end(found: socket.socket) -> End | None:
    try:
        address, port = found.getpeername()[:2]
    except OSError:  # it listens, or is closed
        return None
    return str(address).removeprefix("::ffff:"), int(port)


def _sockets(port: int) -> Iterator[tuple[int, socket.socket]]:
    """Yield the descriptors at a port of ours, each with a socket of its own that shares the connection."""
    with suppress(OSError):
        for path in sorted(Path("/dev/fd").iterdir()) if port else ():  # 0: the server never started
            with suppress(OSError), _shared(int(path.name)) as found:
                if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                    yield int(path.name), found


@contextmanager
def _shared(descriptor: int) -> Iterator[socket.socket]:
    copy = os.dup(descriptor)
    try:
        found = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with found:
        yield found
