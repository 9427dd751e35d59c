"""Handing connected sockets from processes to one other process.

Mechanism: a pair of datagram sockets, made before the processes are forked. Each message has one descriptor
and a text (SCM_RIGHTS, unix(7)). What was sent while the receiver is being replaced waits for the next one.

Bound: one message is at most 4 KiB, and the system bounds how many wait.

Failure: a sender that finds no room is told, and tries again.
"""

import os
import socket

_MAX_BYTES = 4096


class Handover:
    """The two ends; each process closes the one that it does not use."""

    def __init__(self) -> None:
        self.receiver, self.sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.receiver.setblocking(False)
        self.sender.setblocking(False)

    def close(self) -> None:
        """Close both ends."""
        self.receiver.close()
        self.sender.close()

    def send(self, handed: socket.socket, text: bytes) -> None:
        """Hand over a socket; the caller closes its copy. Raises BlockingIOError when there is no room."""
        socket.send_fds(self.sender, [text], [handed.fileno()])

    def receive(self) -> tuple[socket.socket, bytes] | None:
        """Return the next socket and its text, or None when none has come."""
        try:
            text, descriptors, _, _ = socket.recv_fds(self.receiver, _MAX_BYTES, 1)
        except BlockingIOError:
            return None
        if not descriptors:
            return None
        handed, *others = descriptors
        for each in others:
            os.close(each)
        return socket.socket(fileno=handed), text
