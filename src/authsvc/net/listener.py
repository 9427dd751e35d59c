"""Sockets that listen, and may share their port with those of other workers."""

import asyncio
import logging
import socket
from collections.abc import Callable

from authsvc.net.listen_address import ListenAddress

_log = logging.getLogger(__name__)

# Connections that wait to be accepted; beyond that, the kernel lets clients try again after a second.
BACKLOG = 4096
# Connections that are accepted in one wake-up, and seconds until it is tried again after an error.
_MAX_ACCEPTED, _PAUSE_SECONDS = 8, 0.5

# Of a record of TLS: its type, version and length; what it holds at most; and the type and first byte of the
# version of the one with which a client begins (RFC 8446, 5.1).
_RECORD_HEAD_BYTES, _MAX_RECORD_BYTES = 5, 16_384
_HANDSHAKE = b"\x16\x03"

Accept = Callable[[socket.socket], object]


class Listener:
    """One socket that listens."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self._accept: Accept = socket.socket.close
        self._pause: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port."""
        port: int = self._socket.getsockname()[1]
        return port

    def copy(self) -> socket.socket:
        """Return a copy of the socket, for its options."""
        return self._socket.dup()

    def begin(self, accept: Accept, backlog: int = BACKLOG) -> None:
        """Hand each new connection to `accept`; so many may wait for that."""
        self._accept = accept
        self._socket.listen(backlog)
        asyncio.get_running_loop().add_reader(self._socket, self._ready)

    def close(self) -> None:
        """Accept all that waits already, and listen no more."""
        self._end_pause()
        while self._ready():
            pass
        self.discard()

    def discard(self) -> None:
        """Close the socket, whether it has begun to listen or not; the kernel resets what waits."""
        self._end_pause()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _ready(self) -> bool:
        """Accept some connections; return whether more may wait."""
        for _ in range(_MAX_ACCEPTED):
            try:
                accepted, _ = self._socket.accept()
            except (InterruptedError, ConnectionAbortedError):
                continue
            except BlockingIOError:
                return False
            except OSError as error:  # most likely, too many files are open
                _log.error("a connection cannot be accepted: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._socket)
                self._pause = loop.call_later(_PAUSE_SECONDS, self._resume)
                return False
            accepted.setblocking(False)
            if accepted.family != socket.AF_UNIX:
                # An answer is written as a whole, so there is nothing to wait for.
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accept(accepted)
        return True

    def _resume(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._ready)


async def listeners(listen: ListenAddress, *, shared: bool = True) -> list[Listener]:
    """Return a socket for each address that a host name stands for, all with one port; raise OSError.

    By default, the sockets of workers share the port. `[::]` is IPv6 and IPv4.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)
    opened: list[Listener] = []
    port = listen.port
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            each = _bound(family, kind, protocol, (address[0], port, *address[2:]), shared)
            opened.append(Listener(each))
            port = opened[0].port
    except BaseException:
        for listener in opened:
            listener.discard()
        raise
    return opened


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...], shared: bool) -> socket.socket:
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:  # The supervisor checks that no other program has it.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and address[0] == "::":
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
    except BaseException:
        listening.close()
        raise
    return listening


async def spoken(accepted: socket.socket, *, by_tls: bool) -> None:
    """Wait until a client has said something, which is a whole record if it is `by_tls`, or has disconnected.

    Raises OSError when it is gone.
    """
    if not by_tls:
        await _holds(accepted, 1)
        return
    await _holds(accepted, _RECORD_HEAD_BYTES)
    head = accepted.recv(_RECORD_HEAD_BYTES, socket.MSG_PEEK)
    if len(head) == _RECORD_HEAD_BYTES and head.startswith(
        _HANDSHAKE
    ):  # OpenSSL refuses anything else at once
        await _holds(accepted, len(head) + min(int.from_bytes(head[3:]), _MAX_RECORD_BYTES))
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _holds(accepted: socket.socket, size: int) -> None:
    """Wait until so many bytes have arrived, or the client has disconnected."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    if size > 1:
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    loop.add_reader(accepted, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(accepted)
