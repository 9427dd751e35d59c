"""A substitute for authsvc, for responses that the real one rarely gives, and to count calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from authsvc.client import VerdictCode, rich_status
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2


class Standin:
    """Answers VerifyKey with given outcomes."""

    def __init__(
        self, *outcomes: grpc.StatusCode | VerdictCode, reason: str = "", retry_after: float = 0
    ) -> None:
        """Answer with these outcomes in turn, and then always with the last one."""
        self.outcomes = outcomes
        self.details = (reason, retry_after)
        self.peers: list[str] = []
        self.keys: list[str] = []
        # The timeout of each call in seconds.
        self.remaining: list[float] = []
        # Peers that are never answered.
        self.hanging = ""
        # Responses wait for this.
        self.open = asyncio.Event()
        self.open.set()
        self.health = health.aio.HealthServicer()

    async def verify(self, request: bytes, context: Any) -> bytes:
        outcome = self.outcomes[min(len(self.peers), len(self.outcomes) - 1)]
        self.peers.append(context.peer())
        self.remaining.append(context.time_remaining())
        self.keys.append(dict(context.invocation_metadata()).get("authorization", ""))
        if context.peer() == self.hanging:
            await asyncio.Future()
        await self.open.wait()
        if isinstance(outcome, grpc.StatusCode):
            reason, retry_after = self.details
            trailers = rich_status.write(outcome, "told", reason, {}, retry_after) if reason else ()
            await context.abort(outcome, "told", trailers)
        code = resources_pb2.VerdictCode.Value(f"VERDICT_CODE_{outcome.name}")
        valid = outcome is VerdictCode.VALID
        return pb.VerifyKeyResponse(valid=valid, code=code, key_id="key_1").SerializeToString()

    def more_handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return handlers of other services."""
        return []

    async def tell_health(self, status: Any) -> None:
        await self.health.set("authsvc.v1.KeyService", status)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve while the block runs, and yield the address."""
        server = grpc.aio.server()
        handlers: dict[str, Any] = {"VerifyKey": grpc.unary_unary_rpc_method_handler(self.verify)}
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("authsvc.v1.KeyService", handlers), *self.more_handlers()]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        await self.tell_health(health_pb2.HealthCheckResponse.SERVING)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)
