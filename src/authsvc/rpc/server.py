"""The gRPC server: our services, health and reflection on one port."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import grpc
from grpc_health.v1 import health

from authsvc.entrance.entrance import Entrance
from authsvc.entrance.readiness import Readiness
from authsvc.model.errors import OperatorError
from authsvc.net.listen_address import ListenAddress
from authsvc.rpc import sockets
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.endpoint import Raw, Service, raw_handler, service_handler
from authsvc.rpc.health import Health
from authsvc.rpc.peer import End, end_of
from authsvc.rpc.public import NoSuchRpc, Public
from authsvc.rpc.reflection import Reflection
from authsvc.rpc.tls import Tls
from authsvc.verify.clock import Stopwatch, boottime
from authsvc.verify.lease import Lease

# Of a message. A batch of 100 key strings is some 20 KiB, or 480 KiB with all the scopes that it can name.
MAX_BYTES = 1024 * 1024
# Of the headers of one call, counted as in RFC 9113, 6.5.2. A credential has less than 200 bytes.
_MAX_HEADER_BYTES = 16 * 1024
# Bytes of a message that gRPC takes before it is read.
_WINDOW_BYTES = 16 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_BYTES),
    # The clients of one process share a connection. gRPC counts a call until its handler has ended, which the
    # client does not know: with a lower limit, a client within it is refused now and then.
    ("grpc.max_concurrent_streams", 512),
    # Between these two gRPC refuses some calls and accepts others, so they are equal.
    ("grpc.max_metadata_size", _MAX_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_HEADER_BYTES),
    # The window does not grow with the rate of the sender.
    ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
    ("grpc.http2.bdp_probe", 0),
    # A client that connects and then sends nothing is disconnected.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Workers share the port. The supervisor checks that no other program has it.
    ("grpc.so_reuseport", 1),
    # Clients may ping every ten seconds, so that proxies do not drop an idle connection. Pings may arrive
    # closer together than they were sent, and gRPC disconnects a client at its third early ping.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
# Seconds that the calls of a connection that has reached its age get, in addition to the longest RPC.
_AGED_GRACE_SECONDS = 60.0
# Seconds in which an answer is handed to the system, and far more.
ANSWERED_SECONDS = 0.1
# Seconds between two looks for connections to close, and at least between two.
_LOOK_SECONDS, _PAUSE_SECONDS = 0.5, 0.01
# Seconds in which a client opens connections together.
_TOGETHER_SECONDS = 0.1


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


class Server:
    """Serves from `start` until `stop`, which lets the RPCs in flight end."""

    def __init__(
        self,
        services: Sequence[Service],
        entrance: Entrance,
        bounds: Bounds,
        *,
        tls: Tls | None = None,
        connection_age: float = 0,
        longest: float = 0,
        raw: Sequence[Raw] = (),
        reflects: bool = True,
        stopwatch: Stopwatch = boottime,
        answered: float = ANSWERED_SECONDS,
    ) -> None:
        """Take what to serve.

        Connections are closed after `connection_age` seconds (0: never), so that clients also use workers
        that start later. No RPC takes longer than `longest` seconds by itself, so ageing cuts none off.
        Without `tls`, in plain text. `raw` are RPCs of other protocols. If it `reflects`, anybody may list
        the RPCs. The `stopwatch` measures how long messages take to arrive. A stop waits `answered` seconds
        for answers that gRPC has written to reach the system.
        """
        self._answered = answered
        self._balance, self._ends, self._next_count = bounds.balance, sockets.Ends(), 0.0
        self._tls = tls
        self._connections, self._answers = bounds.connections, bounds.answers
        self._due = asyncio.Event()
        self._connections.on_condemned = self._due.set
        self._connections.on_known = self._note_known
        options = [
            *_OPTIONS,
            *_ageing(connection_age, longest),
            ("grpc.max_allowed_incoming_connections", self._connections.max_connections),
        ]
        self._server = grpc.aio.server(options=options)
        names = [service.descriptor.full_name for service in services]
        self._health = Health(names)
        self._gate = entrance.gate
        self._port = 0
        public = Public(entrance.strangers, bounds.answers, stopwatch)
        self._server.add_generic_rpc_handlers(
            [service_handler(service, entrance, bounds) for service in services]
            + [raw_handler(one, entrance, bounds) for one in raw]
            + [self._health.handler(public)]
            + (Reflection((*names, health.SERVICE_NAME)).handlers(public) if reflects else [])
            + [NoSuchRpc(entrance.strangers)]
        )
        self._arrivals = [bounds.arrivals, *public.arrivals]
        self._streams = public.streams

    @property
    def refused(self) -> Mapping[str, int]:
        """How many calls were refused: by the limits of open streams, and of messages being received."""
        return {
            "stream": sum(streams.refused for streams in self._streams),
            "message": sum(arrivals.refused for arrivals in self._arrivals),
        }

    async def start(self, listen: ListenAddress) -> int:
        """Serve at an address and return the port; raise AddressInUseError."""
        try:
            if self._tls is None:
                self._port = self._server.add_insecure_port(str(listen))
            else:
                self._port = self._server.add_secure_port(str(listen), self._tls.credentials())
        except RuntimeError as error:
            raise AddressInUseError(listen, error, tls=self._tls is not None) from error
        await self._health.begin()
        await self._server.start()
        self._balance.begin(sockets.listener(self._port))
        return self._port

    async def tell_health(self, lease: Lease) -> None:
        """Report our health by the lease, for ever."""
        await self._health.follow(lease)

    async def tell_stop(self, readiness: Readiness) -> None:
        """Report NOT_SERVING when the worker is about to stop, while calls are still accepted."""
        await readiness.ended()
        await self._health.stop()

    async def due(self) -> None:
        """Wait until `look` is due: for a while, or until a connection is to be closed for its calls."""
        await asyncio.sleep(_PAUSE_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._next_count - time.monotonic())):
                await self._due.wait()
        self._due.clear()

    async def look(self) -> None:
        """End calls whose messages are late, and close unwanted connections."""
        for arrivals in self._arrivals:
            arrivals.expire()
        await self._close_unwanted()

    def _note_known(self) -> None:
        self._balance.note_new(self._connections.open_known)
        # Others that were opened with it are known by then.
        self._next_count = min(self._next_count, time.monotonic() + _TOGETHER_SECONDS)
        self._due.set()

    async def _close_unwanted(self) -> None:
        unwanted: dict[str, set[End]] = {
            "unread": {end_of(peer) for peer in self._answers.stalled()},
            "resets": {end_of(peer) for peer in self._connections.take_condemned()},
            "room": set(),
        }
        if (now := time.monotonic()) >= self._next_count:
            self._next_count = now + _LOOK_SECONDS
            ends = await asyncio.to_thread(self._ends.read, self._port)
            self._connections.count(ends)
            unwanted["room"] = self._connections.superfluous(ends)
            self._balance.look(ends, self._connections.open_known)
        closing = set().union(*unwanted.values())
        if closing:
            self._connections.closing({reason: len(some) for reason, some in unwanted.items()})
            await asyncio.to_thread(sockets.hang_up, self._port, closing.__contains__)

    async def stop(self, grace: float) -> None:
        """Refuse new RPCs, notify watchers of our health, and let calls in flight end within `grace` seconds.

        Connections without a call in flight are closed at once, so that their clients use another worker.
        """
        deadline = time.monotonic() + grace
        await self._health.stop()
        sockets.leave(self._port)
        self._balance.leave()
        await self._gate.close()
        # Compared by port only, since an address can be written in several ways.
        busy = {peer.rpartition(":")[2] for peer in self._connections.busy()}
        await asyncio.sleep(self._answered)
        sockets.hang_up(self._port, lambda end: str(end[1]) not in busy)
        await self._gate.emptied(deadline - time.monotonic())
        self._health.release()
        await asyncio.sleep(self._answered)
        sockets.hang_up(self._port, lambda _: True)
        await self._server.stop(max(ANSWERED_SECONDS, deadline - time.monotonic()))


def _ageing(seconds: float, longest: float) -> list[tuple[str, int]]:
    if not seconds:
        return []
    return [
        ("grpc.max_connection_age_ms", round(seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", round((longest + _AGED_GRACE_SECONDS) * 1000)),
    ]
