"""A listener without an address: only forks of the process that made it can connect, in either direction.

Mechanism: a datagram pair that is made before the forks. To connect, a process makes a pair of connected
sockets and sends one of them through the datagram pair (SCM_RIGHTS); whoever accepts receives it. The process
that made the listener keeps both ends, so connections wait there while nobody accepts.

Bound: some hundred connections wait, as many as the send buffer has room for; another one is refused, to be
tried again.

Failure: a connection ends for one side when the process of the other side has ended.
"""

import os
import socket


class PrivateListener:
    """Made before the forks; one fork accepts, the others connect."""

    def __init__(self) -> None:
        self._accepting, self._connecting = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self._accepting, self._connecting):
            end.setblocking(False)

    def close(self) -> None:
        """Close it in this process; connections stay open."""
        self._accepting.close()
        self._connecting.close()

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when somebody connects."""
        return self._accepting.fileno()

    def connect(self) -> socket.socket:
        """Return a connection that does not block; raise OSError when too many wait already."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                socket.send_fds(self._connecting, [b"."], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    def accept(self) -> socket.socket | None:
        """Return the next connection, which does not block, or None if nobody waits.

        Raises OSError when the process has no room for another file.
        """
        try:
            _, received, _, _ = socket.recv_fds(self._accepting, 1, 1)
        except BlockingIOError:
            return None
        if not received:  # the kernel drops a descriptor that the process has no room for
            raise OSError("too many open files")
        os.set_inheritable(received[0], False)
        accepted = socket.socket(fileno=received[0])
        accepted.setblocking(False)
        return accepted
