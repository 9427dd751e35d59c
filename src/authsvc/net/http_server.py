"""A small HTTP/1.1 server for requests without a body.

Mechanism: a connection answers one request after the other; while it does, or while its client does not read
the answers, nothing more is read from it.

Bound: a head of 64 KiB in 256 lines, ten seconds to send it, ten for an answer and ten to read it, 75 s
between two requests, and a maximum of connections. When all are taken, a further one replaces the one that
waits longest for a request, first of those that were never answered. When none waits, it is closed at once.
A request that announces a body is refused at its head.
For each connection, at most one head that was not answered is held, and 16 KiB and one answer that were not
read. All connections together hold at most `MAX_HELD_BYTES` that were not answered; beyond that, every
connection that holds more than an even share is refused.

Failure: what h11 does not accept is answered with the status that it names, and the connection is closed. A
fault of ours is 500, an answer that takes too long 503.
"""

import asyncio
import logging
import math
import os
import socket
import time
from contextlib import suppress

from authsvc.net.http_connection import MAX_HELD_BYTES, Answer, Connection
from authsvc.net.http_message import Call, Reply
from authsvc.net.listen_address import ListenAddress

__all__ = ["MAX_CONNECTIONS", "MAX_HELD_BYTES", "Answer", "Call", "HttpServer", "Reply"]

_log = logging.getLogger(__name__)

MAX_CONNECTIONS = 4096
# Connections that wait to be accepted.
_BACKLOG = 1024
# Seconds between two log lines.
_LOG_SECONDS = 60.0
# How long idle connections stay open at a stop.
IDLE_GRACE_SECONDS = 0.5


class HttpServer:
    """Serves from `start` until `stop`, which lets requests in progress end."""

    def __init__(
        self,
        answer: Answer,
        *,
        max_connections: int = MAX_CONNECTIONS,
        backlog: int = _BACKLOG,
        idle_grace: float = IDLE_GRACE_SECONDS,
    ) -> None:
        """Take what answers, how many connections there may be, and how many may wait to be accepted.

        An event loop of asyncio itself accepts all that wait before any of them is refused.
        """
        self.answer = answer
        self.max_connections = max_connections
        self._backlog = backlog
        self._idle_grace = idle_grace
        self.connections: set[Connection] = set()
        # Those that wait for their first request, and for another one; the longest waiting first.
        self.silent: dict[Connection, None] = {}
        self.idle: dict[Connection, None] = {}
        #: How many were closed to make room, and because there was none.
        self.closed = {"room": 0, "full": 0}
        self._told = -math.inf
        self._listen: ListenAddress | None = None
        self.closing = False
        # What has arrived and was not answered, of all connections.
        self.held_bytes = 0
        self._server: asyncio.Server | None = None

    async def start(self, listen: ListenAddress, *, shared: bool = True) -> int:
        """Serve at an address, which workers share by default, and return the port; raise OSError.

        `[::]` is IPv6 and IPv4, as for gRPC.
        """
        try:
            self._server = await self._bound(listen, shared)
        except OSError as error:
            if isinstance(error, socket.gaierror) or not error.errno:
                raise
            # The words of asyncio repeat the address.
            raise OSError(error.errno, os.strerror(error.errno)) from error
        port: int = self._server.sockets[0].getsockname()[1]
        self._listen = listen.with_port(port)
        return port

    async def _bound(self, listen: ListenAddress, shared: bool) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if listen.host == "::":
            # asyncio itself would make it IPv6 only.
            both = socket.create_server(
                (listen.host, listen.port),
                family=socket.AF_INET6,
                reuse_port=shared,
                dualstack_ipv6=socket.has_dualstack_ipv6(),
            )
            return await loop.create_server(lambda: Connection(self), sock=both, backlog=self._backlog)
        return await loop.create_server(
            lambda: Connection(self), listen.host, listen.port, reuse_port=shared, backlog=self._backlog
        )

    def has_room(self) -> bool:
        """Return whether one more connection is accepted; close another one for it if necessary."""
        if len(self.connections) < self.max_connections:
            return True
        waiting = next(iter(self.silent or self.idle), None)
        if waiting is not None:
            waiting.abort()
            self.forget(waiting)
        self.closed["full" if waiting is None else "room"] += 1
        now = time.monotonic()
        if now - self._told > _LOG_SECONDS:
            self._told = now
            _log.warning(
                "all %d connections to %s are taken; closed until now, to make room and for lack of it: %s",
                self.max_connections,
                self._listen,
                self.closed,
            )
        return waiting is not None

    def forget(self, connection: Connection) -> None:
        """No longer count a connection that is closed."""
        self.connections.discard(connection)
        self.silent.pop(connection, None)
        self.idle.pop(connection, None)

    async def stop(self, grace: float) -> None:
        """Accept no more connections, and let the open ones end within `grace` seconds.

        A request that arrives meanwhile is answered, and its connection ends; idle connections are closed
        after half a second. So a proxy seldom writes to a connection that was just closed.
        """
        self.closing = True
        if self._server is not None:
            self._server.close()
        begun = time.monotonic()
        await self._wait_until_empty(min(self._idle_grace, grace))
        for connection in tuple(self.connections):
            connection.close_if_idle()
        await self._wait_until_empty(grace - (time.monotonic() - begun))
        for connection in tuple(self.connections):
            connection.abort()

    async def _wait_until_empty(self, seconds: float) -> None:
        """Wait until all connections have ended, at most for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, seconds)):
                while self.connections:
                    await asyncio.wait([connection.closed for connection in self.connections])
