"""gRPC's own test service, `grpc.testing.TestService`, served by either transport.

Only the transport is the product's: behind it are no callers, no limits and no database. What the product's
endpoints never ask of a transport is missing, and so are the cases that need it: metadata of any name, and
whether a message was compressed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import grpc

from authsvc.entrance.gate import Gate
from authsvc.net.listen_address import ListenAddress
from authsvc.rpc import server as grpcio
from authsvc.rpc.answers import Answers
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.balance import Balance
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.connections import Connections
from authsvc.rpc.context import Context
from authsvc.rpc.lane import server as lane
from authsvc.rpc.rpc import Rpc
from authsvc.rpc.served import Served
from authsvc.rpc.tls import Tls
from authsvc.verify.clock import boottime
from tests.lane.interop_messages import message

SERVICE = "/grpc.testing.TestService"
_SERVERS: dict[str, Callable[..., lane.Server | grpcio.Server]] = {
    "lane": lane.Server,
    "grpcio": grpcio.Server,
}


class _Health:
    """A health that nobody asks for."""

    async def begin(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def release(self) -> None:
        pass


@dataclass
class _Entrance:
    gate: Gate = field(default_factory=Gate)
    observer: None = None


class TestService:
    """What a transport serves; stands in for `rpc.served.Served`."""

    __test__ = False

    def __init__(self) -> None:
        self.health, self.entrance = _Health(), _Entrance()
        self.bounds = Bounds(
            Arrivals(100, 100, boottime),
            Answers(boottime),
            Connections(1000, boottime),
            Balance(None, 0, boottime),
            boottime,
        )
        self.rpcs = {
            rpc.path: rpc
            for rpc in (
                Rpc(f"{SERVICE}/EmptyCall", self._empty),
                Rpc(f"{SERVICE}/UnaryCall", self._unary),
                Rpc(f"{SERVICE}/CacheableUnaryCall", self._unary),
                Rpc(f"{SERVICE}/StreamingInputCall", self._streaming_input),
                Rpc(f"{SERVICE}/StreamingOutputCall", self._streaming_output, writes=True),
                Rpc(f"{SERVICE}/FullDuplexCall", self._full_duplex, writes=True),
            )
        }
        self.unknown = Rpc("", self._unknown)
        #: Set when a FullDuplexCall is over for its server.
        self.over = asyncio.Event()
        #: Stops the server, with seconds for the calls in flight.
        self.stop: Callable[[float], Awaitable[None]]

    def expire(self) -> None:
        """See `Served.expire`."""

    async def _empty(self, _: object, context: Context) -> bytes:
        await context.read()
        return b""

    async def _unary(self, _: object, context: Context) -> bytes:
        request = message("SimpleRequest").FromString(await context.read())
        await self._end_by(request, context)
        return self._answer("SimpleResponse", request.response_size)

    async def _streaming_input(self, _: object, context: Context) -> bytes:
        size = 0
        async for data in self._messages(context):
            size += len(message("StreamingInputCallRequest").FromString(data).payload.body)
        answer: bytes = message("StreamingInputCallResponse")(
            aggregated_payload_size=size
        ).SerializeToString()
        return answer

    async def _streaming_output(self, _: object, context: Context) -> None:
        await self._send(message("StreamingOutputCallRequest").FromString(await context.read()), context)

    async def _full_duplex(self, _: object, context: Context) -> None:
        context.add_done_callback(lambda _: self.over.set())
        async for data in self._messages(context):
            await self._send(message("StreamingOutputCallRequest").FromString(data), context)

    async def _send(self, request: Any, context: Context) -> None:
        await self._end_by(request, context)
        for wanted in request.response_parameters:
            await asyncio.sleep(wanted.interval_us / 1e6)
            await context.write(self._answer("StreamingOutputCallResponse", wanted.size))

    async def _messages(self, context: Context) -> AsyncIterator[bytes]:
        while (data := await context.read()) is not grpc.aio.EOF:
            yield data

    async def _unknown(self, _: object, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown RPC")
        raise AssertionError("abort always raises")

    async def _end_by(self, request: Any, context: Context) -> None:
        if request.HasField("response_status") and request.response_status.code:
            codes = {code.value[0]: code for code in grpc.StatusCode}
            wanted = request.response_status
            await context.abort(codes[wanted.code], wanted.message)

    def _answer(self, name: str, size: int) -> bytes:
        answer: bytes = message(name)(payload=message("Payload")(body=bytes(size))).SerializeToString()
        return answer


@asynccontextmanager
async def serving_tests(transport: str, *, tls: Tls | None = None) -> AsyncIterator[tuple[str, TestService]]:
    """Yield the address of a running test service, and the service."""
    service = TestService()
    server = _SERVERS[transport](cast("Served", service), tls=tls)
    port = await server.start(ListenAddress("127.0.0.1", 0))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop, 0)

        async def stop(grace: float) -> None:
            stack.pop_all()
            await server.stop(grace)

        service.stop = stop
        yield f"127.0.0.1:{port}", service
