"""The unary cases of gRPC's interoperability tests by grpcio's client, against both transports."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.conftest import TRANSPORTS
from tests.lane.interop_messages import message
from tests.lane.interop_service import SERVICE, TestService, serving_tests

_LARGE_REQUEST, _LARGE_ANSWER = 271_828, 314_159
_SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈 and 100 %\t\n"
_COMPRESSIONS = [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]


class Caller:
    """A client of the test service."""

    def __init__(self, channel: grpc.aio.Channel, service: TestService) -> None:
        self._channel, self.service = channel, service

    def unary(self, method: str, request: Any, **options: Any) -> Any:
        """Begin a unary call; the method is named with its service."""
        return self._channel.unary_unary(method)(request.SerializeToString(), **options)

    def duplex(self, **options: Any) -> Any:
        """Begin a FullDuplexCall."""
        return self._channel.stream_stream(f"{SERVICE}/FullDuplexCall")(**options)


@pytest.fixture(params=TRANSPORTS)
async def caller(request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    async with (
        serving_tests(request.param) as (address, service),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Caller(channel, service)


def unary(size: int = 0, body: int = 0, **fields: Any) -> Any:
    return message("SimpleRequest")(
        response_size=size, payload=message("Payload")(body=bytes(body)), **fields
    )


async def code_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return how a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


async def test_empty_unary(caller: Caller) -> None:
    assert await caller.unary(f"{SERVICE}/EmptyCall", message("Empty")()) == b""


@pytest.mark.parametrize("compression", _COMPRESSIONS)
async def test_large_unary(caller: Caller, compression: grpc.Compression) -> None:
    """Messages that are larger than a window, also compressed, and one that is never worth it."""
    for size, body in ((_LARGE_ANSWER, _LARGE_REQUEST), (1, 0), (0, 1)):
        answer = await caller.unary(f"{SERVICE}/UnaryCall", unary(size, body), compression=compression)
        assert len(message("SimpleResponse").FromString(answer).payload.body) == size


async def test_many_at_once(caller: Caller) -> None:
    """Large messages share a connection."""
    calls = [caller.unary(f"{SERVICE}/UnaryCall", unary(_LARGE_ANSWER, _LARGE_REQUEST)) for _ in range(30)]
    assert {len(answer) > _LARGE_ANSWER for answer in await asyncio.gather(*calls)} == {True}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_status(caller: Caller, code: grpc.StatusCode) -> None:
    """With a message of any characters."""
    status = message("EchoStatus")(code=code.value[0], message=_SPECIAL)
    found = await code_of(caller.unary(f"{SERVICE}/UnaryCall", unary(response_status=status)))
    assert found == (code, _SPECIAL)


@pytest.mark.parametrize(
    "method", [f"{SERVICE}/UnimplementedCall", "/grpc.testing.UnimplementedService/UnimplementedCall"]
)
async def test_unimplemented(caller: Caller, method: str) -> None:
    code, _ = await code_of(caller.unary(method, message("Empty")()))
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_too_large_a_message(caller: Caller) -> None:
    """Also while the client still sends it; the connection goes on."""
    code, _ = await code_of(caller.unary(f"{SERVICE}/UnaryCall", unary(body=4 * 1024 * 1024)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await caller.unary(f"{SERVICE}/EmptyCall", message("Empty")()) == b""


async def test_metadata(caller: Caller) -> None:
    """Of every form; more than 16 KiB is refused."""
    empty, method = message("Empty")(), f"{SERVICE}/EmptyCall"
    metadata = (("x-a", "1"), ("x-a", "2"), ("x-thing-bin", bytes(range(256))), ("x-empty", ""))
    assert await caller.unary(method, empty, metadata=metadata) == b""
    assert await caller.unary(method, empty, metadata=(("x-large", "x" * 15_000),)) == b""
    code, _ = await code_of(caller.unary(method, empty, metadata=(("x-large", "x" * 20_000),)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_cancel_after_begin(caller: Caller) -> None:
    """The server learns of it."""
    call = caller.duplex()
    await call.write(
        message("StreamingOutputCallRequest")(
            response_parameters=[message("ResponseParameters")(size=9)]
        ).SerializeToString()
    )
    await call.read()
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED
    async with asyncio.timeout(10):
        await caller.service.over.wait()


async def test_timeout_on_sleeping_server(caller: Caller) -> None:
    """Server and client end the call at its deadline."""
    call = caller.duplex(timeout=0.05)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
