"""The port of a service: held by the supervisor, shared by its workers, in use for everybody else.

Mechanism: a first socket, which does not share the port, fails if another service listens there. A second
one, which never listens, holds the port for sockets of the same user that share it by SO_REUSEPORT.

Bound: a service that starts exactly between the two sockets is not noticed. The kernel gives connections to
sockets that listen, so the one that holds the port gets none.

Failure: OSError of the system; the caller words it.
"""

import errno
import socket

from authsvc.model.errors import OperatorError
from authsvc.net.listen_address import ListenAddress


class AddressInUseError(OperatorError):
    """The address cannot be listened on, most likely because another program has it."""

    def __init__(self, listen: ListenAddress, error: Exception, *, tls: bool = False) -> None:
        told = (
            f"cannot listen at {listen} ({error}): is authsvc running there already? "
            "Set AUTHSVC_LISTEN to another host:port"
        )
        if tls:
            # gRPC does not say which of the two it is. OpenSSL, which looked at the key, takes more kinds.
            told += "; or gRPC does not support the key in AUTHSVC_TLS_KEY: use RSA, P-256 or P-384"
        super().__init__(told)


def hold(listen: ListenAddress) -> socket.socket:
    """Hold an address until the socket is closed; raise OSError when it is not available."""
    found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As a listener sets it: connections of an earlier service that linger do not count.
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
            # The lingering connections belong to a listener that did not share the port. Until a worker
            # listens, another supervisor would not notice this one.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(address)
    except BaseException:
        holder.close()
        raise
    return holder
