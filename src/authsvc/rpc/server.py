"""The gRPC server of grpcio."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from authsvc.net.listen_address import ListenAddress
from authsvc.net.port import AddressInUseError
from authsvc.rpc import sockets
from authsvc.rpc.limits import (
    AGED_GRACE_SECONDS,
    ANSWERED_SECONDS,
    HANDSHAKE_SECONDS,
    MAX_HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_STREAMS,
    PING_SECONDS,
    WINDOW_BYTES,
)
from authsvc.rpc.peer import End
from authsvc.rpc.rpc import Rpc
from authsvc.rpc.served import Served
from authsvc.rpc.tls import Tls
from authsvc.rpc.watch import Watch

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # Between these two gRPC refuses some calls and accepts others, so they are equal.
    ("grpc.max_metadata_size", MAX_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
    # The window does not grow with the rate of the sender.
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.server_handshake_timeout_ms", round(HANDSHAKE_SECONDS * 1000)),
    # Workers share the port. The supervisor checks that no other program has it.
    ("grpc.so_reuseport", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", round(PING_SECONDS * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
]


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
        Without `tls`, in plain text. A stop waits `answered` seconds for answers that gRPC has written to
        reach the system.
        """
        bounds = served.bounds
        self._served, self._answered = served, answered
        self._balance, self._connections = bounds.balance, bounds.connections
        self._ends = sockets.Ends()
        #: Looks at our connections.
        self.watch = Watch(served, self._read_ends, self._hang_up)
        self._tls = tls
        options = [
            *_OPTIONS,
            *_ageing(connection_age, longest),
            ("grpc.max_allowed_incoming_connections", self._connections.max_connections),
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers([Handlers(served.rpcs, served.unknown)])
        self._health, self._gate = served.health, served.entrance.gate
        self._port = 0

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

    async def _read_ends(self) -> Sequence[End]:
        return await asyncio.to_thread(self._ends.read, self._port)

    async def _hang_up(self, closing: set[End]) -> None:
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


class Handlers(grpc.GenericRpcHandler):
    """Finds the handler of each call.

    To gRPC each is an RPC whose client sends a stream. Of a unary RPC it would read the message before it
    calls us.
    """

    def __init__(self, rpcs: Mapping[str, Rpc], unknown: Rpc) -> None:
        """Take RPCs by path, and what serves every other path."""
        self._handlers = {path: _handler(rpc) for path, rpc in rpcs.items()}
        self._unknown = _handler(unknown)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call."""
        return self._handlers.get(handler_call_details.method, self._unknown)


def _handler(rpc: Rpc) -> Any:
    if rpc.writes:
        return grpc.stream_stream_rpc_method_handler(rpc.handle)
    return grpc.stream_unary_rpc_method_handler(rpc.handle)


def _ageing(seconds: float, longest: float) -> list[tuple[str, int]]:
    if not seconds:
        return []
    return [
        ("grpc.max_connection_age_ms", round(seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", round((longest + AGED_GRACE_SECONDS) * 1000)),
    ]
