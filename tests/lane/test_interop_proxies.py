"""The service behind nginx and Envoy as plain proxies of gRPC, over both transports."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.conftest import TRANSPORTS, Client, Clock, serving
from tests.gateway.conftest import new_directory
from tests.gateway.proxies import NoProxyError
from tests.lane.grpc_proxies import NAMES, before
from tests.lane.interop_messages import message
from tests.lane.interop_service import SERVICE, TestService, serving_tests
from tests.rpc.refusal import refused

pytestmark = pytest.mark.slow
pairs = pytest.mark.parametrize(("name", "over"), [(name, over) for name in NAMES for over in TRANSPORTS])


@dataclass
class Behind:
    """The test service behind a proxy."""

    channel: grpc.aio.Channel
    service: TestService


Place = Callable[[str, str], Awaitable[str]]


@pytest.fixture
async def place(checkout: Path, reachable_dir: Path) -> AsyncIterator[Place]:
    """Returns the address of a new proxy of this name before the server at an address."""
    async with AsyncExitStack() as stack:

        async def place(name: str, address: str) -> str:
            try:
                running = before(checkout, name, new_directory(reachable_dir), address)
                return await stack.enter_async_context(running)
            except NoProxyError as error:
                pytest.skip(str(error))

        yield place


@pairs
async def test_the_service(database_url: str, clock: Clock, place: Place, name: str, over: str) -> None:
    """Verdicts, errors with details, a large message, a compressed one, and many calls at once."""
    async with (
        serving(database_url, clock, transport=over) as service,
        grpc.aio.insecure_channel(await place(name, service.address)) as channel,
    ):
        admin, stranger = Client(channel, service.admin_key), Client(channel, None)
        key_string = (await admin.CreateKey(owner_id="acme", display_name="Orders")).key_string
        answers = await asyncio.gather(*(admin.VerifyKey(key_string=key_string) for _ in range(200)))
        assert all(answer.valid for answer in answers)
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING"):
            await stranger.VerifyKey(key_string=key_string)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await admin.CreateKey(owner_id="ac me", display_name="Orders")
        assert "owner_id" in refusal.fields
        large = await admin.VerifyKey(key_string="x" * 900 * 1024)
        assert large.code == resources_pb2.VERDICT_CODE_NOT_FOUND
        metadata = [("authorization", f"Bearer {service.admin_key}")]
        verdict = await KeyServiceStub(channel).VerifyKey(
            pb.VerifyKeyRequest(key_string=key_string),
            metadata=metadata,
            compression=grpc.Compression.Gzip,
        )
        assert verdict.valid


@pytest.fixture
async def behind(place: Place, name: str, over: str) -> AsyncIterator[Behind]:
    async with (
        serving_tests(over) as (address, service),
        grpc.aio.insecure_channel(await place(name, address)) as channel,
    ):
        yield Behind(channel, service)


@pairs
async def test_a_deadline(behind: Behind) -> None:
    """It ends the call for the client and for the server."""
    call: Any = behind.channel.stream_stream(f"{SERVICE}/FullDuplexCall")(timeout=0.2)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(10):
        await behind.service.over.wait()


@pairs
async def test_a_cancelled_call(behind: Behind) -> None:
    """The server learns of it."""
    call: Any = behind.channel.stream_stream(f"{SERVICE}/FullDuplexCall")()
    wanted = message("StreamingOutputCallRequest")(
        response_parameters=[message("ResponseParameters")(size=1)]
    )
    await call.write(wanted.SerializeToString())
    await call.read()
    call.cancel()
    async with asyncio.timeout(10):
        await behind.service.over.wait()


@pairs
async def test_large_answers(behind: Behind) -> None:
    """Larger than the windows of the proxy, on shared connections."""
    request = message("SimpleRequest")(
        response_size=2_000_000, payload=message("Payload")(body=bytes(500_000))
    )
    call: Any = behind.channel.unary_unary(f"{SERVICE}/UnaryCall")
    answers = await asyncio.gather(*(call(request.SerializeToString()) for _ in range(10)))
    assert {len(answer) > 2_000_000 for answer in answers} == {True}


@pairs
async def test_a_message_that_is_too_large(behind: Behind) -> None:
    """The client learns why, though the proxy still sends when the server has answered."""
    request = message("SimpleRequest")(payload=message("Payload")(body=bytes(1_500_000)))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await behind.channel.unary_unary(f"{SERVICE}/UnaryCall")(request.SerializeToString())
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
