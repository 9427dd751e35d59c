"""The RPCs of the service, called in this process for a client of HTTP.

Mechanism: a `_Call` is the context of an endpoint (`rpc.context`), like a stream of gRPC. What is asked and
how it is answered is an `Exchange`: a request of HTTP, or a step in the making of a page. The endpoints share
the entrance and the bounds with those of gRPC, but for the connections, which the server of HTTP bounds by
itself.

Failure: an error of the service is a `Refusal`, as in gRPC. What the exchange raises ends the call.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from authsvc.entrance.entrance import Entrance
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.connections import Unwatched
from authsvc.rpc.rpc import Rpc
from authsvc.rpc.service import Service, service_rpcs

_log = logging.getLogger(__name__)

#: The codes of gRPC by their numbers.
CODES = {code.value[0]: code for code in grpc.StatusCode}
Trailers = tuple[tuple[str, str | bytes], ...]

_FAULT = "internal error; see the log of the service"
_LATE = "the answer was not ready before the deadline of the call"


class Client(NamedTuple):
    """Who asks: the other end of the connection, as gRPC names it, and what it sent.

    `metadata` are the headers `authorization`, `x-forwarded-for`, `x-request-id`, `traceparent` and
    `tracestate`, in small letters and in their order; `auth_context` is what is known of a certificate, by
    gRPC's names.
    """

    peer: str
    metadata: Sequence[tuple[str, str]]
    auth_context: Mapping[str, Iterable[bytes]] = {}


class Refusal(NamedTuple):
    """An error of an RPC: a `google.rpc.Status`, with its details."""

    status: Status

    @property
    def code(self) -> grpc.StatusCode:
        """The code of gRPC."""
        return CODES[self.status.code]


class Exchange(Protocol):
    """A request and its answer, as an RPC sees them: serialized messages."""

    async def read(self) -> bytes:
        """Return the request."""

    async def answer(self, message: bytes, trailers: Trailers) -> None:
        """Send the answer; return when the connection has taken it."""

    async def refuse(self, refusal: Refusal, trailers: Trailers) -> None:
        """Send an error; return when the connection has taken it."""


class Method(NamedTuple):
    """An RPC and its messages."""

    rpc: Rpc
    descriptor: MethodDescriptor
    request_type: type[Message]
    answer_type: type[Message]


class Rpcs:
    """All RPCs that need a caller, by path: `/authsvc.v1.KeyService/GetKey`."""

    def __init__(self, services: Sequence[Service], entrance: Entrance, bounds: Bounds) -> None:
        own = replace(
            bounds,
            answers=bounds.answers.of_another_port(),
            connections=Unwatched(bounds.stopwatch),
        )
        #: As it is for those who call no RPC.
        self.entrance = entrance
        if entrance.observer is not None:
            entrance = replace(entrance, observer=entrance.observer.over("connect_rpc"))
        self.methods = {
            rpc.path: Method(
                rpc,
                descriptor,
                GetMessageClass(descriptor.input_type),
                GetMessageClass(descriptor.output_type),
            )
            for service in services
            for descriptor, rpc in zip(
                service.descriptor.methods, service_rpcs(service, entrance, own), strict=True
            )
        }

    async def call(
        self, method: Method, client: Client, exchange: Exchange, timeout: float | None = None
    ) -> None:
        """Call an RPC, and answer the exchange; `timeout` is in seconds.

        Raises what the exchange raises, for instance OSError when the client is gone.
        """
        call = _Call(client, exchange, timeout)
        try:
            await self._answered(method, call, exchange, timeout)
        finally:
            call.end()

    async def _answered(
        self, method: Method, call: "_Call", exchange: Exchange, timeout: float | None
    ) -> None:
        try:
            async with asyncio.timeout(timeout) as limit:
                answer = await method.rpc.handle(None, call)
        except grpc.aio.AbortError:
            await exchange.refuse(call.refusal, call.trailers)
        except TimeoutError:
            if not limit.expired() or call.is_answered:
                raise
            late = Refusal(Status(code=grpc.StatusCode.DEADLINE_EXCEEDED.value[0], message=_LATE))
            await exchange.refuse(late, call.trailers)
        else:
            if answer is not None:
                await exchange.answer(answer, call.trailers)


class _Call:
    """The context of one call; see `rpc.context.Context`."""

    def __init__(self, client: Client, exchange: Exchange, timeout: float | None) -> None:
        self._client, self._exchange = client, exchange
        self._until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._callbacks: list[Callable[[Any], None]] = []
        self._is_read = False
        self.trailers: Trailers = ()
        self.refusal = Refusal(Status(code=grpc.StatusCode.INTERNAL.value[0], message=_FAULT))
        self.is_answered = False

    def end(self) -> None:
        """Tell those who hold something for the call that it is over."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def peer(self) -> str:
        """See `rpc.context.Context`."""
        return self._client.peer

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """See `rpc.context.Context`."""
        return self._client.metadata

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """See `rpc.context.Context`."""
        return self._client.auth_context

    def time_remaining(self) -> float | None:
        """See `rpc.context.Context`."""
        return None if self._until is None else max(0.0, self._until - asyncio.get_running_loop().time())

    async def read(self) -> Any:
        """See `rpc.context.Context`."""
        if self._is_read:
            return grpc.aio.EOF
        self._is_read = True
        return await self._exchange.read()

    async def write(self, message: bytes) -> None:
        """See `rpc.context.Context`."""
        self.is_answered = True
        await self._exchange.answer(message, self.trailers)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """See `rpc.context.Context`."""
        self._callbacks.append(callback)

    def set_trailing_metadata(self, metadata: Trailers) -> None:
        """See `rpc.context.Context`."""
        self.trailers = metadata

    async def abort(self, code: grpc.StatusCode, details: str = "") -> Any:
        """See `rpc.context.Context`."""
        self.refusal = Refusal(Status(code=code.value[0], message=details))
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: grpc.Status) -> Any:
        """See `rpc.context.Context`."""
        trailing = dict(status.trailing_metadata or ())
        details = trailing.pop(rpc_status.GRPC_DETAILS_METADATA_KEY, None)
        found = Status.FromString(details) if isinstance(details, bytes) else None
        self.refusal = Refusal(found or Status(code=status.code.value[0], message=status.details))
        self.trailers = (*self.trailers, *trailing.items())
        raise grpc.aio.AbortError
