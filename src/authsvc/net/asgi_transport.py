"""What the transports of asyncio and uvloop tell of a connection."""

import asyncio
import fcntl
import sys
import termios


def address(name: object) -> tuple[str, int] | None:
    """Return the address and port of a socket's name, if it has them."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def is_unread(transport: asyncio.Transport) -> bool:
    """Return whether something was written that the client's system has not acknowledged, or may not have.

    TLS has a transport below it whose buffer cannot be seen. When that holds something, the kernel does, too.
    """
    if transport.get_write_buffer_size():
        return True
    connected = transport.get_extra_info("socket")
    if connected is None:
        return False
    try:
        waiting = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return True
    return int.from_bytes(waiting, sys.byteorder) > 0
