"""The server of the lane: accepts connections, lets them age, and drains."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from authsvc.net.listen_address import ListenAddress
from authsvc.net.listener import Listener, listeners, spoken
from authsvc.net.port import AddressInUseError
from authsvc.rpc.lane import head
from authsvc.rpc.lane.connection import Connection
from authsvc.rpc.lane.turns import Queues
from authsvc.rpc.limits import ANSWERED_SECONDS, HANDSHAKE_SECONDS
from authsvc.rpc.peer import End, peer_of
from authsvc.rpc.served import Served
from authsvc.rpc.tls import Tls
from authsvc.rpc.watch import Watch
from authsvc.telemetry.observer import HEADERS

_log = logging.getLogger(__name__)

# Seconds between two looks at a connection, and how many are looked at in one turn.
_LOOK_SECONDS, _LOOKS_AT_ONCE = 0.5, 100


class Server:
    """Serves from `start` until `stop`, which lets the RPCs in flight end."""

    def __init__(
        self,
        served: Served,
        *,
        tls: Tls | None = None,
        connection_age: float = 0,
        longest: float = 0,
        answered: float = ANSWERED_SECONDS,
    ) -> None:
        """Take what to serve.

        Connections are closed after `connection_age` seconds (0: never), so that clients also use workers
        that start later. No RPC takes longer than `longest` seconds by itself, so ageing cuts none off.
        Without `tls`, in plain text. A stop gives the last calls `answered` seconds to begin, and clients as
        long to read the last answers.
        """
        self.served, self.connection_age, self.longest = served, connection_age, longest
        self._tls, self._answered = tls, answered
        #: See `owner.Owner`.
        self.read_head = head.read if served.entrance.observer is None else head.reader(*HEADERS)
        #: In which connections wait that have more to say than others leave them time for.
        self.queues = Queues()
        #: Those that are open, and those that are being set up.
        self.connections: set[Connection] = set()
        # Those that have said nothing, and those without a caller, of which some have one by now; the oldest
        # one comes first.
        self._silent: dict[Connection, None] = {}
        self._strangers: dict[Connection, None] = {}
        self._listeners: list[Listener] = []
        self._balance = served.bounds.balance
        self._looking: asyncio.TimerHandle | None = None
        self._to_look_at: list[Connection] = []
        # Set when a connection has left, or is lost.
        self._changed = asyncio.Event()
        # Handshakes begin one by one, since each takes the event loop for as long as a signature.
        self._handshakes = asyncio.Lock()
        #: Looks at our connections.
        self.watch = Watch(served, self._read_ends, self._hang_up)

    async def start(self, listen: ListenAddress) -> int:
        """Serve at an address and return the port; raise AddressInUseError."""
        loop = asyncio.get_running_loop()
        try:
            self._listeners = await listeners(listen)
        except OSError as error:
            raise AddressInUseError(listen, error) from error
        await self.served.health.begin()
        for each in self._listeners:
            each.begin(self._accepted)
        self._looking = loop.call_later(_LOOK_SECONDS, self._look)
        self._balance.begin(self._listeners[0].copy if len(self._listeners) == 1 else None)
        return self._listeners[0].port

    async def stop(self, grace: float) -> None:
        """Notify watchers of our health, and let calls in flight end within `grace` seconds.

        Clients are told to use another connection, and are served until they have read that. Only then calls
        are refused: those of clients that do not answer, and those by HTTP.
        """
        deadline = time.monotonic() + grace
        served = self.served
        await served.health.stop()
        for each in self._listeners:
            each.close()
        self._balance.leave()
        loop = asyncio.get_running_loop()
        for connection in tuple(self.connections):
            connection.leave(loop.time() + grace)
        await self._until(lambda: not any(each.takes_calls for each in self.connections), grace)
        await asyncio.sleep(min(self._answered, grace))  # calls that have arrived by then begin
        await served.entrance.gate.close()
        await served.entrance.gate.emptied(deadline - time.monotonic())
        served.health.release()
        await self._until(lambda: not self.connections, max(self._answered, deadline - time.monotonic()))
        if self._looking is not None:
            self._looking.cancel()
        for connection in tuple(self.connections):
            connection.abort()
        # Calls that are given up now still note that their answers were not sent.
        await self._until(lambda: not self.connections, ANSWERED_SECONDS)
        await served.entrance.gate.emptied(ANSWERED_SECONDS)

    def _accepted(self, accepted: socket.socket) -> None:
        """Set up a connection; if there are too many, in place of one without a caller."""
        full = len(self.connections) >= self.served.bounds.connections.max_connections
        if full and not self._made_room():
            accepted.close()
            return
        try:
            connection = Connection(self, _peer(accepted))
        except OSError:  # it is gone
            accepted.close()
            return
        self.connections.add(connection)
        self._silent[connection] = None
        connection.set_up = asyncio.get_running_loop().create_task(self._set_up(accepted, connection))
        connection.set_up.add_done_callback(lambda _: self._is_set_up(accepted, connection))

    def _made_room(self) -> bool:
        """End the oldest connection that is silent, or without a caller; return whether there was one."""
        connections = self.served.bounds.connections
        while found := self._silent or self._strangers:
            oldest = next(iter(found))
            del found[oldest]
            if not connections.is_known(oldest.peer):
                oldest.abort()
                connections.closing({"room": 1})
                return True
        return False

    async def _set_up(self, accepted: socket.socket, connection: Connection) -> None:
        """Set up a connection when its client has said something: until then, it takes little."""
        options: dict[str, object] = {}
        if self._tls is not None:
            options = {"ssl": self._tls.context, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        try:
            await spoken(accepted, by_tls=self._tls is not None)
            if connection in self._silent:
                del self._silent[connection]
                self._strangers[connection] = None
            if self._tls is not None:
                async with self._handshakes:
                    await asyncio.sleep(0)  # one signature, and then other connections have their turn
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                **options,  # type: ignore[arg-type]
            )
        except (OSError, ssl.SSLError) as error:
            _log.debug("a connection could not be set up: %s", error)

    def _is_set_up(self, accepted: socket.socket, connection: Connection) -> None:
        if not connection.is_open:
            accepted.close()
            connection.connection_lost(None)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self._silent.pop(connection, None)
        self._strangers.pop(connection, None)
        self._changed.set()

    def left(self) -> None:
        """Note that a connection takes no more calls."""
        self._changed.set()

    def _look(self) -> None:
        """Look at some connections; all of them have their turn, and no call waits for more than a few."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._to_look_at:
            self._to_look_at = list(self.connections)
        for _ in range(min(_LOOKS_AT_ONCE, len(self._to_look_at))):
            connection = self._to_look_at.pop()
            if connection in self.connections:
                connection.look(now)
        turns = 1 + len(self.connections) // _LOOKS_AT_ONCE
        self._looking = loop.call_later(_LOOK_SECONDS / turns, self._look)

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Wait until something holds of our connections, at most for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()

    async def _read_ends(self) -> Sequence[End]:
        return [connection.end for connection in self.connections]

    async def _hang_up(self, closing: set[End]) -> None:
        for connection in tuple(self.connections):
            if connection.end in closing:
                connection.abort()


def _peer(accepted: socket.socket) -> str:
    """Return the other end of a connection in the form of gRPC; raise OSError when it is gone."""
    if accepted.family == socket.AF_UNIX:
        return f"unix:{accepted.fileno()}"
    host, port = accepted.getpeername()[:2]
    return peer_of(host, port)
