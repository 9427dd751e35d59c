"""The gRPC server: our services, health and reflection on one port."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import grpc
from grpc_health.v1 import health

from authsvc.clock import Stopwatch, boottime
from authsvc.descriptors import in_use
from authsvc.rpc import sockets
from authsvc.rpc.endpoint import Raw, Service, raw_handler, service_handler
from authsvc.rpc.entrance import Entrance
from authsvc.rpc.health import Health
from authsvc.rpc.peer import End, end_of
from authsvc.rpc.public import NoSuchRpc, Public
from authsvc.rpc.reflection import Reflection
from authsvc.rpc.tls import Tls
from authsvc.verify.lease import Lease

# A batch of 100 key strings is some 20 KiB, or 480 with all the scopes that it can name; nothing needs more.
MOST_BYTES = 1024 * 1024
# Of one call, as RFC 9113 counts them (6.5.2). A credential has less than 200.
_MOST_HEADER_BYTES = 16 * 1024
# What gRPC takes of a message before anybody asks for it.
_WINDOW = 16 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", MOST_BYTES),
    # Clients of one process share a connection. gRPC counts a call until its handler has ended, which the
    # client does not know: who has as many in flight as a lower bound allows is refused now and then.
    ("grpc.max_concurrent_streams", 512),
    # Between the two gRPC refuses some calls and takes others; so they are one.
    ("grpc.max_metadata_size", _MOST_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", _MOST_HEADER_BYTES),
    # No window that grows with how fast somebody sends.
    ("grpc.http2.lookahead_bytes", _WINDOW),
    ("grpc.http2.bdp_probe", 0),
    # Who connects and then says nothing is not waited for.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Workers share the port. That nobody else has it is for the supervisor to see to.
    ("grpc.so_reuseport", 1),
    # Clients may ping every ten seconds, so that proxies do not drop an idle connection. Pings that are sent
    # so far apart may arrive closer together; gRPC hangs up on who is too early for the third time.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
_log = logging.getLogger(__name__)

# How long a connection that has reached its age may go on with what it has begun, besides the longest RPC.
_AGED_GRACE = 60.0
# An answer is handed to the system in far less than this.
ANSWERED_SECONDS = 0.1
# Seconds between two looks for connections that are to be closed, and the least.
_LOOK, _PAUSE = 0.5, 0.01


class AddressInUseError(Exception):
    """Nobody can listen there, most likely because somebody does."""

    def __init__(self, listen: str, error: Exception, *, tls: bool = False) -> None:
        told = (
            f"cannot listen at {listen} ({error}): is authsvc running there already? "
            "Set AUTHSVC_LISTEN to another host:port"
        )
        if tls:
            # gRPC does not say which of the two it is. OpenSSL, which looked at the key, takes more kinds.
            told += "; or else gRPC does not take the key of AUTHSVC_TLS_KEY: use RSA, P-256 or P-384"
        super().__init__(told)


class Server:
    """Serves from `start` until `stop` has let the RPCs in flight end."""

    def __init__(
        self,
        services: Sequence[Service],
        entrance: Entrance,
        *,
        tls: Tls | None = None,
        connection_age: float = 0,
        longest: float = 0,
        raw: Sequence[Raw] = (),
        reflects: bool = True,
        stopwatch: Stopwatch = boottime,
        answered: float = ANSWERED_SECONDS,
    ) -> None:
        """Take what to serve; a client connects anew after `connection_age` seconds (0: never).

        So connections spread over workers that start later than their clients. No RPC takes
        longer than `longest` seconds by itself, so ageing cuts none off. Without `tls`, in plain text.
        `raw` are RPCs of other people's protocols. If it `reflects`, whoever connects may ask which RPCs
        there are. How long messages take to arrive is told by the `stopwatch`. A stop waits `answered`
        seconds for what gRPC has written to reach the system.
        """
        self._answered = answered
        self._tls = tls
        self._connections, self._answers = entrance.connections, entrance.answers
        options = [
            *_OPTIONS,
            *_ageing(connection_age, longest),
            ("grpc.max_allowed_incoming_connections", self._connections.most),
        ]
        self._server = grpc.aio.server(options=options)
        names = [service.descriptor.full_name for service in services]
        self._health = Health(names)
        self._gate = entrance.gate
        self._port = 0
        public = Public(entrance.strangers, entrance.answers, stopwatch)
        self._server.add_generic_rpc_handlers(
            [service_handler(service, entrance) for service in services]
            + [raw_handler(one, entrance) for one in raw]
            + [self._health.handler(public)]
            + (Reflection((*names, health.SERVICE_NAME)).handlers(public) if reflects else [])
            + [NoSuchRpc(entrance.strangers)]
        )
        self._arrivals = [entrance.arrivals, *public.arrivals]
        self._streams = public.streams

    @property
    def refused(self) -> Mapping[str, int]:
        """How many calls were refused: for streams that are open, and for messages on their way."""
        return {
            "stream": sum(streams.refused for streams in self._streams),
            "message": sum(arrivals.refused for arrivals in self._arrivals),
        }

    async def start(self, listen: str) -> int:
        """Serve at `host:port` (0: any port) and return the port; raise AddressInUseError."""
        try:
            if self._tls is None:
                self._port = self._server.add_insecure_port(listen)
            else:
                self._port = self._server.add_secure_port(listen, self._tls.credentials())
        except RuntimeError as error:
            raise AddressInUseError(listen, error, tls=self._tls is not None) from error
        await self._health.begin()
        await self._server.start()
        return self._port

    async def tell_health(self, lease: Lease) -> None:
        """Have our health follow the lease, for ever."""
        await self._health.follow(lease)

    async def watch(self) -> None:
        """End calls whose messages are late, and close connections that hold too much, for ever."""
        condemned = asyncio.Event()
        self._connections.on_condemned = condemned.set
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await condemned.wait()
            condemned.clear()
            try:
                for arrivals in self._arrivals:
                    arrivals.expire()
                await self._close_unwanted()
            except Exception:  # noqa: BLE001 - nobody else would do it
                _log.exception("cannot look after connections")
            await asyncio.sleep(_PAUSE)

    async def _close_unwanted(self) -> None:
        unwanted: dict[str, set[End]] = {
            "unread": {end_of(peer) for peer in self._answers.stalled()},
            "resets": {end_of(peer) for peer in self._connections.take_condemned()},
            "room": set(),
        }
        if in_use() > self._connections.crowded:
            unwanted["room"] = self._connections.superfluous(
                await asyncio.to_thread(sockets.ends, self._port)
            )
        closing = set().union(*unwanted.values())
        if closing:
            self._connections.closing({reason: len(some) for reason, some in unwanted.items()})
            await asyncio.to_thread(sockets.hang_up, self._port, closing.__contains__)

    async def stop(self, grace: float) -> None:
        """Take no more RPCs, tell those who watch our health, let the others end within `grace` seconds.

        Who has no RPC in flight is hung up on at once, and turns to another worker.
        """
        deadline = time.monotonic() + grace
        await self._health.stop()
        sockets.leave(self._port)
        await self._gate.close()
        # By their ports alone: an address may be written in several ways.
        busy = {peer.rpartition(":")[2] for peer in self._gate.peers()}
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
        ("grpc.max_connection_age_grace_ms", round((longest + _AGED_GRACE) * 1000)),
    ]
