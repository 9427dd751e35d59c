"""The gRPC server: our services, health and reflection on one port."""

import asyncio
import socket
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from authsvc.rpc.endpoint import service_handler
from authsvc.rpc.gate import Gate
from authsvc.rpc.key_service import KeyService
from authsvc.rpc.reflection import CommentedPool
from authsvc.telemetry import Metrics
from authsvc.v1 import key_service_pb2
from authsvc.verify.verifier import Verifier

# A batch of 100 key strings is some 20 KiB; what is larger than this is no request of ours.
MOST_BYTES = 4 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.max_concurrent_streams", 1000),
    # A second service on the same port is a mistake, and is told so.
    ("grpc.so_reuseport", 0),
    # Clients may ping an idle connection every ten seconds, so that proxies do not drop it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
_KEY_SERVICE = key_service_pb2.DESCRIPTOR.services_by_name["KeyService"]


class AddressInUseError(Exception):
    """Somebody else listens there."""


class Server:
    """Serves from `start` until `stop` has let the RPCs in flight end."""

    def __init__(self, keys: KeyService, verifier: Verifier, metrics: Metrics) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = _Health()
        self._gate = Gate()
        self._server.add_generic_rpc_handlers(
            (service_handler(keys, _KEY_SERVICE, verifier, metrics, self._gate),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (_KEY_SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=CommentedPool())

    async def start(self, listen: str) -> int:
        """Serve at `host:port` (0: any port) and return the port; raise AddressInUseError."""
        try:
            _probe(listen)  # gRPC would tell it in its own way on standard error.
            port = self._server.add_insecure_port(listen)
        except (OSError, RuntimeError) as error:
            raise AddressInUseError(
                f"cannot listen at {listen} ({error}): is authsvc running there already? "
                "Set AUTHSVC_LISTEN to another host:port"
            ) from error
        await self._server.start()
        await self._health.set(_KEY_SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace: float) -> None:
        """Take no more RPCs, tell those who watch our health, let the others end within `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        left = await self._gate.close(grace)
        self._health.release()
        await self._server.stop(left)


def _probe(listen: str) -> None:
    """Raise OSError when somebody listens there, or nobody can."""
    host, _, port = listen.rpartition(":")
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[
        0
    ]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


class _Health(health.aio.HealthServicer):  # type: ignore[misc]  # it comes without types
    """Health whose watchers do not hold up a stop."""

    def __init__(self) -> None:
        super().__init__()
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        watching = asyncio.ensure_future(super().Watch(request, context))
        released = asyncio.ensure_future(self._released.wait())
        try:
            await asyncio.wait((watching, released), return_when=asyncio.FIRST_COMPLETED)
        finally:
            released.cancel()
            watching.cancel()
