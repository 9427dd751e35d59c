"""The one way in, for every RPC.

gate → authenticate → limits → scope → read → parse → validate → service → bytes, and errors to statuses.
Built from a service's descriptor: an RPC is served exactly when its proto names the scope that it needs.
There are no interceptors, since each would cost every VerifyKey.

To gRPC each is an RPC whose client sends a stream. Of a unary one it would read the message before it asks
us, so that a stranger could have it keep as many as there are streams.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from authsvc.clock import Stopwatch
from authsvc.errors import AuthsvcError, PermissionDenied
from authsvc.model.caller import Caller
from authsvc.model.key_string import redact
from authsvc.rpc.authentication import CredentialSpent
from authsvc.rpc.call import Call
from authsvc.rpc.entrance import Context, Entrance
from authsvc.rpc.limits import account_of
from authsvc.rpc.request import parser
from authsvc.rpc.status import code_of, status_of
from authsvc.v1 import options_pb2

_log = logging.getLogger(__name__)

# A message, or the bytes of one of another protocol.
Answer = TypeVar("Answer", Message, bytes)
Method = Callable[[Caller, Any], Awaitable[Answer]]

# Seconds that an answer gets to arrive before the caller's deadline.
_ANSWER_TAKES = 0.2
_LONGEST_REQUEST_ID = 128


class Service(Protocol):
    """What serves the RPCs of `descriptor`, each by a method of its name."""

    descriptor: ClassVar[ServiceDescriptor]


@runtime_checkable
class Delivering(Protocol):
    """A service that wants to know whether its answers with new key strings were sent."""

    def delivery(self, request: Message, answer: Message) -> Callable[[bool], object]:
        """Return whom to tell that it was sent, or that the call ended before."""


# Of a request and its answer.
Delivery = Callable[[Message, Message], Callable[[bool], object]]


def service_handler(service: Service, entrance: Entrance) -> grpc.GenericRpcHandler:
    """Return the handler of all RPCs of a service."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in service.descriptor.methods:
        delivery = _delivery(service, method)
        endpoint = _endpoint(
            method.name,
            (_scope(method),),
            parser(method),
            getattr(service, method.name),
            _serialize,
            entrance,
            delivery,
        )
        # An endpoint that wants to know whether its answer was sent sends it, as one message of a stream.
        kind = (
            grpc.stream_unary_rpc_method_handler
            if delivery is None
            else grpc.stream_stream_rpc_method_handler
        )
        handlers[method.name] = kind(endpoint)
    return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)


class Raw(NamedTuple):
    """An RPC of another protocol: `serve` takes and returns bytes, for callers with all of `scopes`."""

    service: str
    method: str
    scopes: tuple[str, ...]
    serve: Callable[[Caller, bytes], Awaitable[bytes]]


def raw_handler(raw: Raw, entrance: Entrance) -> grpc.GenericRpcHandler:
    """Return the handler of one such RPC, which has the same way in."""
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(
        _endpoint(raw.method, raw.scopes, lambda data: data, raw.serve, lambda data: data, entrance)
    )
    return grpc.method_handlers_generic_handler(raw.service, {raw.method: handler})


def _endpoint(
    name: str,
    scopes: tuple[str, ...],
    parse: Callable[[bytes], Any],
    serve: Method[Answer],
    serialize: Callable[[Answer], bytes],
    entrance: Entrance,
    delivery: Delivery | None = None,
) -> Callable[[object, Context], Awaitable[bytes | None]]:
    authentication, refusals, metrics = entrance.authentication, entrance.refusals, entrance.metrics
    strangers, connections = entrance.strangers, entrance.connections
    arrivals, answers = entrance.arrivals, entrance.answers
    stopwatch = entrance.stopwatch
    changes = any(scope.endswith(":write") for scope in scopes)
    manages = not all(scope.endswith(":verify") for scope in scopes)
    observe = metrics.rpc_seconds.labels(name).observe

    async def handle(_: object, context: Context) -> bytes | None:
        started = time.perf_counter()
        caller: Caller | None = None
        account = ""
        answer = b""
        sent: Callable[[bool], object] | None = None
        call = Call(entrance, context)
        try:
            call.enter(manages)
            caller = await authentication.caller(context)
            connections.known(call.peer)
            account = account_of(caller) or call.peer
            if manages:
                call.count(caller)
            answers.check(account)
            if changes:
                # Looked at again when the change is made.
                caller = caller._replace(
                    deadline=_deadline(context, stopwatch),
                    request_id=_request_id(context),
                    required_scopes=scopes,
                )
            if lacking := caller.lacks(scopes):
                raise PermissionDenied(
                    f"{name} needs the scope {' and '.join(lacking)}",
                    reason="SCOPE_MISSING",
                    required_scope=lacking[0],
                )
            request = parse(await arrivals.message(context, account))
            message = await serve(caller, request)
            if delivery is not None:
                sent = delivery(request, message)  # type: ignore[arg-type]  # no RPC of bytes has one
            answer = serialize(message)
            if not changes:
                # Who changed something is told so, however much they leave unread; such answers are small.
                answers.check(account, len(answer))
        except AuthsvcError as error:
            answer = b""  # the error knows this frame, and may be kept for a while
            metrics.rpc_errors.labels(name, code_of(error).name).inc()
            if isinstance(error, CredentialSpent):
                caller = error.caller
                account = account_of(caller) or call.peer
            if caller is not None:
                refusals.note(caller._replace(request_id=_request_id(context)), name, error)
            else:
                call.leave()
                await strangers.wait(call.peer)
            call.answers(account)
            await call.refuse(status_of(error))
        except Exception:  # noqa: BLE001 - the client gets a status, whatever happens
            metrics.rpc_errors.labels(name, grpc.StatusCode.INTERNAL.name).inc()
            _log.exception("a fault in %s", name)
            call.answers(account)
            await context.abort(grpc.StatusCode.INTERNAL, "a fault of the service; its log says more")
        else:
            call.answers(account, len(answer))
            if sent is None:
                return answer
            await _send(context, answer, sent)
            return None
        finally:
            observe(time.perf_counter() - started)
        raise AssertionError("abort always raises")

    return handle


async def _send(context: Context, answer: bytes, sent: Callable[[bool], object]) -> None:
    """Send an answer, and tell whether it was sent: whether the connection has taken it."""
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


def _request_id(context: Context) -> str:
    """Return what the caller names this call, as far as it may be kept: nothing long, no secret."""
    for name, value in context.invocation_metadata() or ():
        if name == "x-request-id":
            named = str(value)
            fits = len(named) <= _LONGEST_REQUEST_ID and named.isprintable() and redact(named) == named
            return named if fits else ""
    return ""


def _deadline(context: Context, stopwatch: Stopwatch) -> float:
    """Return until when the caller waits, by the stopwatch: a little less, so that our answer arrives."""
    left = context.time_remaining()
    return math.inf if left is None else stopwatch() + max(0.5 * left, left - _ANSWER_TAKES)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
