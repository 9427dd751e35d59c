"""The server of HTTP/1.1 for ASGI applications: uvicorn's protocol with httptools, within bounds of our own.

Mechanism: a connection has one request after the other answered. Meanwhile it reads on only to notice that
its client ends. The application starts when the head is there, and receives the body as it arrives. `send`
returns when the client has taken what was sent, but for 16 KiB, and raises OSError when the client is gone;
until its answer is complete, the application is then cancelled.

Bound: a head of 64 KiB in 256 lines and ten seconds to send it, after ten for the handshake of TLS; a body of
`max_body_bytes` and ten seconds to send it; `answer_seconds` for an answer, and for each further part of it;
ten seconds to read 64 KiB; 75 s between two requests; and a maximum of connections. When all are taken, a
further one replaces the one that waits longest for a request, first of those that were never answered. When
none waits, it is closed at once. A request that announces a larger body than there may be is refused at its
head.
For each connection, at most one head that was not answered is held, a body, and 80 KiB of an answer that were
not read. With TLS these are up to some 210 KiB, since it has buffers of its own, and each connection has a
buffer of 256 KiB to receive. After the last answer, a client of TLS has a second to end TLS once it has read
everything. All connections together hold at most `MAX_HELD_BYTES` that were not answered; beyond that, every
connection that holds more than an even share is refused.

Failure: what httptools or `http_head` refuses is answered with a status, and the connection is closed. A
fault of the application is 500, an answer that takes too long 503, and a body 408; once the answer has begun,
the connection is aborted.
"""

import asyncio
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import ServerState

from authsvc.net.asgi_connection import MAX_HELD_BYTES, Connection
from authsvc.net.listen_address import ListenAddress
from authsvc.net.listener import Listener, listeners, spoken

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

__all__ = ["IDLE_GRACE_SECONDS", "MAX_CONNECTIONS", "MAX_HELD_BYTES", "AsgiServer"]

_log = logging.getLogger(__name__)

MAX_CONNECTIONS = 4096
# Connections that wait to be accepted.
_BACKLOG = 1024
# Seconds between two log lines.
_LOG_SECONDS = 60.0
# For a handshake of TLS, for an answer, and how long idle connections stay open at a stop.
_HANDSHAKE_SECONDS, _ANSWER_SECONDS = 10.0, 10.0
IDLE_GRACE_SECONDS = 0.5


class AsgiServer:
    """Serves from `start` until `stop`, which lets requests in progress end."""

    def __init__(
        self,
        application: "ASGI3Application",
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_body_bytes: int = 0,
        tls: Callable[[], ssl.SSLContext] | None = None,
        backlog: int = _BACKLOG,
        idle_grace: float = IDLE_GRACE_SECONDS,
        answer_seconds: float = _ANSWER_SECONDS,
    ) -> None:
        """Take what answers, and the bounds that differ.

        `tls` returns the context of a new connection. With `max_body_bytes` 0, a request with a body is
        refused. The application gets no lifespan and no WebSockets.
        """
        self.application = application
        self.max_connections = max_connections
        self.max_body_bytes = max_body_bytes
        self.answer_seconds = answer_seconds
        self._tls = tls
        self._backlog = backlog
        self._idle_grace = idle_grace
        #: For the classes of uvicorn; only its tasks are used, those of the application.
        self.config = Config(application, http=Connection, ws="none", lifespan="off", log_config=None)
        self.state = ServerState()
        #: Those that are open, and those that are being set up.
        self.connections: set[Connection] = set()
        # Those that wait for their first request, and for another one; the longest waiting first.
        self.silent: dict[Connection, None] = {}
        self.idle: dict[Connection, None] = {}
        #: How many were closed to make room, and because there was none.
        self.closed = {"room": 0, "full": 0}
        self._told = -math.inf
        self._listen: ListenAddress | None = None
        self._listeners: list[Listener] = []
        self.closing = False
        #: What has arrived and was not answered, of all connections.
        self.held_bytes = 0
        # Handshakes begin one by one, since each takes the event loop for as long as a signature.
        self._handshakes = asyncio.Lock()

    async def start(self, listen: ListenAddress, *, shared: bool = True) -> int:
        """Serve at an address, which workers share by default, and return the port; raise OSError."""
        self._listeners = await listeners(listen, shared=shared)
        try:
            for each in self._listeners:
                each.begin(self._accepted, self._backlog)
        except OSError:
            while self._listeners:
                self._listeners.pop().discard()
            raise
        port = self._listeners[0].port
        self._listen = listen.with_port(port)
        return port

    async def stop(self, grace: float) -> None:
        """Accept no more connections, and let the open ones end within `grace` seconds.

        A request that arrives meanwhile is answered, and its connection ends; idle connections are closed
        after half a second. So a proxy seldom writes to a connection that was just closed.
        """
        while self._listeners:
            self._listeners.pop().close()
        self.closing = True
        begun = time.monotonic()
        await self._wait_until_empty(min(self._idle_grace, grace))
        for connection in tuple(self.connections):
            connection.close_if_idle()
        await self._wait_until_empty(grace - (time.monotonic() - begun))
        for connection in tuple(self.connections):
            connection.abort()
        # Also those that go on after their answer, whose connections may have ended long before.
        for task in tuple(self.state.tasks):
            task.cancel()

    def admit(self, connection: Connection) -> bool:
        """Return whether one more connection is accepted; close another one for it if necessary."""
        if len(self.connections) >= self.max_connections and not self._made_room():
            return False
        self.connections.add(connection)
        self.silent[connection] = None
        return True

    def forget(self, connection: Connection) -> None:
        """No longer count a connection that is closed."""
        self.connections.discard(connection)
        self.silent.pop(connection, None)
        self.idle.pop(connection, None)

    def _made_room(self) -> bool:
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

    def _accepted(self, accepted: socket.socket) -> None:
        connection = Connection(self)
        if not self.admit(connection):
            connection.connection_lost(None)
            accepted.close()
            return
        connection.set_up = asyncio.get_running_loop().create_task(self._set_up(accepted, connection))
        connection.set_up.add_done_callback(lambda _: _is_set_up(accepted, connection))

    async def _set_up(self, accepted: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        if self._tls is None:
            await loop.connect_accepted_socket(lambda: connection, accepted)
            return
        try:
            # Until the client has said something, its connection takes little.
            await spoken(accepted, by_tls=True)
            async with self._handshakes:
                await asyncio.sleep(0)  # one signature, and then other connections have their turn
            await loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls(),
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            )
        except (OSError, ssl.SSLError) as error:
            _log.debug("a connection could not be set up: %s", error)

    async def _wait_until_empty(self, seconds: float) -> None:
        """Wait until all connections and applications have ended, at most for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, seconds)):
                while waiting := [each.closed for each in self.connections] + list(self.state.tasks):
                    await asyncio.wait(waiting)


def _is_set_up(accepted: socket.socket, connection: Connection) -> None:
    connection.set_up = None
    if not connection.is_open:
        accepted.close()
        connection.connection_lost(None)
