"""A service behind `Authenticated`, with a method of each kind that records its callers."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from authsvc.client import AuthClient, Authenticated, current

ASYNC = ("Unary", "Stream", "Write", "Collect", "Both", "BothWrite")
SYNC = ("SyncUnary", "SyncStream", "SyncCollect", "SyncBoth")
KINDS = (*ASYNC, *SYNC)


def scopes(method: str) -> tuple[str, ...]:
    return (f"{method.lower()}:call",)


@dataclass
class Target:
    """The running service: its channel, and the credential id of each handler that has begun."""

    channel: grpc.aio.Channel
    entered: list[str] = field(default_factory=list)

    def enter(self) -> bytes:
        try:
            identity = current()
        except LookupError:
            self.entered.append("nobody")
            return b"nobody"
        self.entered.append(identity.credential_id)
        return f"{identity.owner_id} {identity.credential_id} {identity.type.value}".encode()

    async def call(self, method: str, *metadata: tuple[str, str], timeout: float = 30) -> list[bytes]:
        """Call a method of any kind, and return all responses."""
        while True:
            try:
                return await self._call(method, *metadata, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                # A bug in gRPC's client: it was still sending its stream when the refusal arrived.
                if error.details() != "Internal error from Core":
                    raise

    async def _call(self, method: str, *metadata: tuple[str, str], timeout: float) -> list[bytes]:
        path, streams = f"/test.Target/{method}", _STREAMS[method.removeprefix("Sync")]
        channel: Any = self.channel
        match streams:
            case (False, False):
                return [await channel.unary_unary(path)(b"x", metadata=metadata, timeout=timeout)]
            case (False, True):
                call = channel.unary_stream(path)(b"x", metadata=metadata, timeout=timeout)
            case (True, False):
                return [await channel.stream_unary(path)(_requests(), metadata=metadata, timeout=timeout)]
            case _:
                call = channel.stream_stream(path)(_requests(), metadata=metadata, timeout=timeout)
        return [answer async for answer in call]


_STREAMS = {
    "Unary": (False, False),
    "Stream": (False, True),
    "Write": (False, True),
    "Collect": (True, False),
    "Both": (True, True),
    "BothWrite": (True, True),
}


async def _requests() -> AsyncIterator[bytes]:
    yield b"x"
    yield b"y"


@asynccontextmanager
async def target(
    client: AuthClient, *interceptors: grpc.aio.ServerInterceptor, **options: Any
) -> AsyncIterator[Target]:
    """Run the service. Without `scopes` in the options, each method requires a scope of its own name."""
    given = {"scopes": {f"test.Target/{method}": scopes(method) for method in KINDS}, **options}
    server = grpc.aio.server(interceptors=[Authenticated(client, **given), *interceptors])
    port = server.add_insecure_port("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        running = Target(channel)
        server.add_generic_rpc_handlers([_handlers(running)])
        await server.start()
        try:
            yield running
        finally:
            await server.stop(None)


def _handlers(on: Target) -> grpc.GenericRpcHandler:
    async def unary(request: Any, context: Any) -> bytes:
        return on.enter()

    async def collect(requests: Any, context: Any) -> bytes:
        who = on.enter()
        return who + b"".join([request async for request in requests])

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield on.enter()
        yield b"end"

    async def write(request: Any, context: Any) -> None:
        await context.write(on.enter())

    # Methods with two streams read the whole request: gRPC's client fails if the response comes earlier.
    async def both(requests: Any, context: Any) -> AsyncIterator[bytes]:
        who = on.enter()
        yield who + b"".join([request async for request in requests])
        yield b"end"

    async def both_write(requests: Any, context: Any) -> None:
        who = on.enter()
        await context.write(who + b"".join([request async for request in requests]))

    def sync_unary(request: Any, context: Any) -> bytes:
        return on.enter()

    def sync_collect(requests: Any, context: Any) -> bytes:
        return on.enter() + b"".join(requests)

    def sync_stream(request: Any, context: Any) -> Iterator[bytes]:
        yield on.enter()
        yield b"end"

    def sync_both(requests: Any, context: Any) -> Iterator[bytes]:
        yield on.enter() + b"".join(requests)
        yield b"end"

    handlers: Sequence[tuple[str, Any, Any]] = (
        ("Unary", grpc.unary_unary_rpc_method_handler, unary),
        ("Stream", grpc.unary_stream_rpc_method_handler, stream),
        ("Write", grpc.unary_stream_rpc_method_handler, write),
        ("Collect", grpc.stream_unary_rpc_method_handler, collect),
        ("Both", grpc.stream_stream_rpc_method_handler, both),
        ("BothWrite", grpc.stream_stream_rpc_method_handler, both_write),
        ("SyncUnary", grpc.unary_unary_rpc_method_handler, sync_unary),
        ("SyncStream", grpc.unary_stream_rpc_method_handler, sync_stream),
        ("SyncCollect", grpc.stream_unary_rpc_method_handler, sync_collect),
        ("SyncBoth", grpc.stream_stream_rpc_method_handler, sync_both),
    )
    return grpc.method_handlers_generic_handler(
        "test.Target", {name: make(behaviour) for name, make, behaviour in handlers}
    )
