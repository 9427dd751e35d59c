"""A port that is ours: held by the supervisor, shared by its workers, taken for everybody else.

Mechanism: a first socket, which shares with nobody, tells whether somebody listens there. A second one, which
never listens, holds the port for sockets of the same user that share it by SO_REUSEPORT.

Bound: a service that starts at the very moment between the two sockets is not told. The kernel gives a
connection to a socket that listens, so the one that holds gets none.

Failure: OSError of the system, for the caller to put in words.
"""

import errno
import socket

_MAX_PORT = 65535


def hold(listen: str) -> socket.socket:
    """Hold `host:port` (0: any port) until the socket is closed; raise OSError when it is not to be had."""
    host, _, port = listen.rpartition(":")
    if int(port) > _MAX_PORT:
        raise OSError(errno.EINVAL, f"{_MAX_PORT} is the highest port")
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[
        0
    ]
    with socket.socket(family, kind, protocol) as probe:
        # As a listener has it: connections of an earlier service that linger are no listeners.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    holder = socket.socket(family, kind, protocol)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # What lingers is of a listener that did not share. Until a worker listens, the next probe passes.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(address)
    except BaseException:
        holder.close()
        raise
    return holder


def number(listen: str) -> int:
    """Return the port of `host:port`."""
    return int(listen.rpartition(":")[2])


def with_port(listen: str, port: int) -> str:
    """Return the address with another port."""
    return f"{listen.rpartition(':')[0]}:{port}"


def in_slot(listen: str, slot: int) -> str:
    """Return the address of the worker in a slot, of which each has its own; port 0 is any port for all."""
    return with_port(listen, number(listen) and number(listen) + slot)
