"""grpc.health.v1 by the lease: a worker that cannot answer says so, and why.

The reason is in the trailer `authsvc-reason` of a Check, and in the log.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from authsvc.entrance.readiness import Readiness
from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.rpc.public import Public, PublicCall, Streams
from authsvc.rpc.rpc import Rpc
from authsvc.verify.lease import Lease

_log = logging.getLogger(__name__)

REASON = "authsvc-reason"
# Characters. The name of a service is kept for as long as a client watches it.
_MAX_NAME_LENGTH = 256
_MAX_WATCHERS, _WATCHERS_OF_ONE = 4096, 16


class Health(health.aio.HealthServicer):  # type: ignore[misc]  # it comes without types
    """The health of some services, which is that of the lease. Watchers do not delay a stop."""

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__()
        self._services = ("", *services)
        self.watchers = Streams("health", max_open=_MAX_WATCHERS, max_per_connection=_WATCHERS_OF_ONE)
        self._reason = ""
        self._stopping = False
        self._released = asyncio.Event()
        self._changed = asyncio.Event()

    async def begin(self) -> None:
        """Report SERVING: a server does not start without the lease."""
        await self._tell(health_pb2.HealthCheckResponse.SERVING, "")

    async def follow(self, lease: Lease) -> None:
        """Report whether the lease is held, for ever."""
        while True:
            if not lease.left:
                await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING, lease.reason)
                _log.error("credentials cannot be verified: %s", lease.reason)
                await lease.taken()
                _log.info("the lease was renewed; verification has resumed")
            await self._tell(health_pb2.HealthCheckResponse.SERVING, "")
            await lease.over()

    async def follow_stop(self, readiness: Readiness) -> None:
        """Report NOT_SERVING when the worker is about to stop, while calls are still accepted."""
        await readiness.ended()
        await self.stop()

    async def stop(self) -> None:
        """Report NOT_SERVING from now on."""
        self._stopping = True
        self._reason = "this worker is stopping"
        await self.enter_graceful_shutdown()
        self._has_changed()

    def release(self) -> None:
        """End the streams of watchers."""
        self._released.set()

    def rpcs(self, public: Public) -> list[Rpc]:
        """Return the RPCs of the service."""
        return [
            Rpc(f"/{health.SERVICE_NAME}/Check", public.unary(self._check)),
            Rpc(
                f"/{health.SERVICE_NAME}/Watch", public.stream(self._serve_watch, self.watchers), writes=True
            ),
        ]

    async def _check(self, call: PublicCall, data: bytes) -> bytes:
        """Answer a Check, with the reason when it is not SERVING."""
        if self._reason:
            call.context.set_trailing_metadata(((REASON, self._reason),))
        answer: bytes = (await self.Check(_request(data), call.context)).SerializeToString()
        return answer

    async def _serve_watch(self, call: PublicCall) -> None:
        """Answer a Watch at each change, until the server stops.

        The one of gRPC holds a lock while it writes, so one client that reads nothing would delay all others,
        and a stop.
        """
        service = _request(await call.message()).service
        watching = asyncio.ensure_future(self._watch(service, call))
        released = asyncio.ensure_future(self._released.wait())
        try:
            await asyncio.wait((watching, released), return_when=asyncio.FIRST_COMPLETED)
        finally:
            released.cancel()
            watching.cancel()

    async def _watch(self, service: str, call: PublicCall) -> None:
        told = None
        while True:
            changed = self._changed
            status = self._server_status.get(service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                await call.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                told = status
            await changed.wait()

    def _has_changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _tell(self, status: Any, reason: str) -> None:
        if self._stopping:
            return
        self._reason = reason
        for service in self._services:
            await self.set(service, status)
        self._has_changed()


def _request(data: bytes) -> Any:
    try:
        request = health_pb2.HealthCheckRequest.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(
            FieldViolation("", "request.decodable", "is not a valid HealthCheckRequest")
        ) from error
    if len(request.service) > _MAX_NAME_LENGTH:
        raise InvalidArgument(
            FieldViolation("service", "string.max_len", "is longer than the name of any service")
        )
    return request
