"""The handler of every RPC that needs a caller.

entrance (gate, authentication, limits, scope) → read → parse → validate → use case → bytes; errors become
statuses. Handlers are built from a service's descriptor: an RPC is served exactly when its proto names the
scope that it needs. There are no interceptors, since each would cost every VerifyKey.

To gRPC each is an RPC whose client sends a stream. Of a unary RPC it would read the message before it calls
us, and anonymous clients could have it keep as many messages as there are streams.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from authsvc.entrance.entrance import Entrance
from authsvc.entrance.limits import account_of
from authsvc.entrance.operation import Operation
from authsvc.model.caller import Caller
from authsvc.model.errors import AuthsvcError
from authsvc.rpc.answer_size import refuse_too_large
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.call import Call
from authsvc.rpc.context import Context, incoming_call
from authsvc.rpc.request import parser
from authsvc.rpc.status import status_of
from authsvc.v1 import options_pb2

_log = logging.getLogger(__name__)

# A message, or the bytes of a message of another protocol.
Answer = TypeVar("Answer", Message, bytes)
Method = Callable[[Caller, Any], Awaitable[Answer]]


class Service(Protocol):
    """Serves the RPCs of `descriptor`, each by the method of the same name."""

    descriptor: ClassVar[ServiceDescriptor]


@runtime_checkable
class Delivering(Protocol):
    """A service that is told whether its answers with new key strings were sent."""

    def delivery(self, request: Message, answer: Message) -> Callable[[bool], object]:
        """Return the function to call with True when the answer was sent, and False when it was lost."""


# Of a request and its answer.
Delivery = Callable[[Message, Message], Callable[[bool], object]]


def service_handler(service: Service, entrance: Entrance, bounds: Bounds) -> grpc.GenericRpcHandler:
    """Return the handler of all RPCs of a service."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in service.descriptor.methods:
        delivery = _delivery(service, method)
        endpoint = _endpoint(
            entrance.operation(method.name, (_scope(method),)),
            parser(method),
            getattr(service, method.name),
            _serialize,
            entrance,
            bounds,
            delivery,
        )
        # To learn whether its answer was sent, an endpoint sends it itself, as the one message of a stream.
        kind = (
            grpc.stream_unary_rpc_method_handler
            if delivery is None
            else grpc.stream_stream_rpc_method_handler
        )
        handlers[method.name] = kind(endpoint)
    return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)


class Raw(NamedTuple):
    """An RPC of another protocol: `serve` takes and returns bytes. Callers need all of `scopes`."""

    service: str
    method: str
    scopes: tuple[str, ...]
    serve: Callable[[Caller, bytes], Awaitable[bytes]]


def raw_handler(raw: Raw, entrance: Entrance, bounds: Bounds) -> grpc.GenericRpcHandler:
    """Return the handler of one such RPC, which passes the same entrance."""
    operation = entrance.operation(raw.method, raw.scopes)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(
        _endpoint(operation, lambda data: data, raw.serve, lambda data: data, entrance, bounds)
    )
    return grpc.method_handlers_generic_handler(raw.service, {raw.method: handler})


def _endpoint(
    operation: Operation,
    parse: Callable[[bytes], Any],
    serve: Method[Answer],
    serialize: Callable[[Answer], bytes],
    entrance: Entrance,
    bounds: Bounds,
    delivery: Delivery | None = None,
) -> Callable[[object, Context], Awaitable[bytes | None]]:
    arrivals, answers, connections = bounds.arrivals, bounds.answers, bounds.connections
    stopwatch = bounds.stopwatch

    async def handle(_: object, context: Context) -> bytes | None:
        started = time.perf_counter()
        account = ""
        answer = b""
        sent: Callable[[bool], object] | None = None
        call = Call(entrance, bounds, operation, context)
        admission = call.admission
        try:
            incoming = incoming_call(context, call.peer, stopwatch, with_deadline=operation.changes)
            caller = admission.enter(incoming) or await admission.authenticate(incoming)
            connections.known(call.peer)
            account = account_of(caller) or call.peer
            answers.check(account)
            admission.authorize(caller)
            request = parse(await arrivals.message(context, account))
            message = await serve(caller, request)
            if delivery is not None:
                sent = delivery(request, message)  # type: ignore[arg-type]  # no RPC of bytes has one
            answer = serialize(message)
            if not operation.changes:
                # A change is done, and is answered however much its caller leaves unread.
                refuse_too_large(len(answer))
                answers.check(account, len(answer))
        except AuthsvcError as error:
            answer = b""  # the error refers to this frame, and may be kept for a while
            await admission.refuse(error)
            if admission.caller is not None:
                account = account_of(admission.caller) or call.peer
            call.answers(account)
            await call.refuse(status_of(error))
        except Exception:  # noqa: BLE001 - the client gets a status, whatever happens
            operation.count_error(grpc.StatusCode.INTERNAL.name)
            _log.exception("unexpected error in %s", operation.name)
            call.answers(account)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error; see the log of the service")
        else:
            call.answers(account, len(answer))
            if sent is None:
                return answer
            await _send(context, answer, sent)
            return None
        finally:
            operation.observe(time.perf_counter() - started)
        raise AssertionError("abort always raises")

    return handle


async def _send(context: Context, answer: bytes, sent: Callable[[bool], object]) -> None:
    """Send an answer, and report whether the connection has taken it."""
    try:
        await context.write(answer)
    except BaseException:
        sent(False)
        raise
    sent(True)


def _delivery(service: Service, method: MethodDescriptor) -> Delivery | None:
    return (
        service.delivery
        if isinstance(service, Delivering) and "key_string" in method.output_type.fields_by_name
        else None
    )


def _scope(method: MethodDescriptor) -> str:
    scope: str = method.GetOptions().Extensions[options_pb2.required_scope]
    if not scope:
        raise ValueError(f"{method.full_name} names no required_scope")
    return scope


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
