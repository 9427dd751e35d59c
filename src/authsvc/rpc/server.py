"""The gRPC server: our services, health and reflection on one port."""

import asyncio
import time
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from authsvc.rpc import sockets
from authsvc.rpc.endpoint import service_handler
from authsvc.rpc.gate import Gate
from authsvc.rpc.health import Health
from authsvc.rpc.key_service import KeyService
from authsvc.rpc.raw_endpoint import Raw, raw_handler
from authsvc.rpc.reflection import CommentedPool
from authsvc.rpc.replica_service import ReplicaService
from authsvc.rpc.session_service import SessionService
from authsvc.telemetry import Metrics
from authsvc.v1 import key_service_pb2, replica_service_pb2, session_service_pb2
from authsvc.verify.lease import Lease
from authsvc.verify.verifier import Verifier

# A batch of 100 key strings is some 20 KiB; what is larger than this is no request of ours.
MOST_BYTES = 4 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.max_concurrent_streams", 1000),
    # Workers share the port. That nobody else has it is for the supervisor to see to.
    ("grpc.so_reuseport", 1),
    # Clients may ping an idle connection every ten seconds, so that proxies do not drop it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
# How long a connection that has reached its age may go on with what it has begun, besides the longest RPC.
_AGED_GRACE = 60.0
# An answer is handed to the system in far less than this.
_ANSWERED = 0.1


class AddressInUseError(Exception):
    """Nobody can listen there, most likely because somebody does."""

    def __init__(self, listen: str, error: Exception) -> None:
        super().__init__(
            f"cannot listen at {listen} ({error}): is authsvc running there already? "
            "Set AUTHSVC_LISTEN to another host:port"
        )


class Server:
    """Serves from `start` until `stop` has let the RPCs in flight end."""

    def __init__(
        self,
        keys: KeyService,
        sessions: SessionService,
        replicas: ReplicaService,
        verifier: Verifier,
        metrics: Metrics,
        *,
        connection_age: float = 0,
        longest: float = 0,
        raw: Sequence[Raw] = (),
    ) -> None:
        """Take what to serve; a client connects anew after `connection_age` seconds (0: never).

        So connections spread over workers that start later than their clients. No RPC takes
        longer than `longest` seconds by itself, so ageing cuts none off. `raw` are RPCs of
        other people's protocols.
        """
        self._server = grpc.aio.server(options=[*_OPTIONS, *_ageing(connection_age, longest)])
        served = (
            (keys, key_service_pb2.DESCRIPTOR.services_by_name["KeyService"]),
            (sessions, session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]),
            (replicas, replica_service_pb2.DESCRIPTOR.services_by_name["ReplicaService"]),
        )
        names = [descriptor.full_name for _, descriptor in served]
        self._health = Health(names)
        self._gate = Gate()
        self._port = 0
        self._server.add_generic_rpc_handlers(
            [
                service_handler(service, descriptor, verifier, metrics, self._gate)
                for service, descriptor in served
            ]
            + [raw_handler(one, verifier, metrics, self._gate) for one in raw]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        shown = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(shown, self._server, pool=CommentedPool())

    async def start(self, listen: str) -> int:
        """Serve at `host:port` (0: any port) and return the port; raise AddressInUseError."""
        try:
            self._port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise AddressInUseError(listen, error) from error
        await self._health.begin()
        await self._server.start()
        return self._port

    async def tell_health(self, lease: Lease) -> None:
        """Have our health follow the lease, for ever."""
        await self._health.follow(lease)

    async def stop(self, grace: float) -> None:
        """Take no more RPCs, tell those who watch our health, let the others end within `grace` seconds.

        Who has no RPC in flight is hung up on at once, and turns to another worker.
        """
        deadline = time.monotonic() + grace
        await self._health.stop()
        sockets.leave(self._port)
        await self._gate.close()
        busy = self._gate.peers()
        await asyncio.sleep(_ANSWERED)
        sockets.hang_up(self._port, but=busy)
        await self._gate.emptied(deadline - time.monotonic())
        self._health.release()
        await asyncio.sleep(_ANSWERED)
        sockets.hang_up(self._port)
        await self._server.stop(max(_ANSWERED, deadline - time.monotonic()))


def _ageing(seconds: float, longest: float) -> list[tuple[str, int]]:
    if not seconds:
        return []
    return [
        ("grpc.max_connection_age_ms", round(seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", round((longest + _AGED_GRACE) * 1000)),
    ]
