"""The one way in, for every RPC.

bytes → authenticate → scope → parse → validate → service → bytes, and errors to
statuses. Built from a service's descriptor: an RPC is served exactly when its
proto names the scope that it needs. There are no interceptors, since each would
cost every VerifyKey.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc
import protovalidate
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from authsvc.clock import boottime
from authsvc.errors import (
    AuthsvcError,
    FieldViolation,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
)
from authsvc.model.caller import Caller
from authsvc.model.key_string import redact
from authsvc.model.verdict import Verdict, VerdictCode
from authsvc.rpc.gate import Gate
from authsvc.rpc.status import code_of, status_of
from authsvc.telemetry import Metrics
from authsvc.v1 import options_pb2
from authsvc.verify.verifier import Verifier

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[bytes, Message]
Method = Callable[[Caller, Any], Awaitable[Message]]

_SCHEME = "bearer "
# Seconds that an answer gets to arrive before the caller's deadline.
_ANSWER_TAKES = 0.2
# All fields of a management call at their longest; a client may verify larger rubbish than that.
_MOST_BYTES = 128 * 1024
# The longest list that any field takes, and how small a message cannot hold one that takes long to check.
_MOST_ITEMS = 100
_LONGEST_REQUEST_ID = 128
_MANY = 1024
# A VALID verdict is the common one; of the others, the caller who has the right secret is told which.
_REFUSALS = {
    VerdictCode.NOT_FOUND: ("CREDENTIAL_INVALID", "is not known; check that it was copied whole"),
    VerdictCode.REVOKED: ("CREDENTIAL_REVOKED", "was revoked; create a new key, or sign in again"),
    VerdictCode.EXPIRED: (
        "CREDENTIAL_EXPIRED",
        "has expired; create or rotate to a new key, or sign in again",
    ),
}


def service_handler(
    service: object, descriptor: ServiceDescriptor, verifier: Verifier, metrics: Metrics, gate: Gate
) -> grpc.GenericRpcHandler:
    """Return the handler of all RPCs of `descriptor`, each served by the method of its name."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, Message]] = {
        method.name: grpc.unary_unary_rpc_method_handler(
            _endpoint(getattr(service, method.name), method, verifier, metrics, gate),
            response_serializer=_serialize,
        )
        for method in descriptor.methods
    }
    return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)


def _endpoint(
    serve: Method, method: MethodDescriptor, verifier: Verifier, metrics: Metrics, gate: Gate
) -> Callable[[bytes, Context], Awaitable[Message]]:
    scope = method.GetOptions().Extensions[options_pb2.required_scope]
    if not scope:
        raise ValueError(f"{method.full_name} names no required_scope")
    request_type = GetMessageClass(method.input_type)
    changes = scope.endswith(":write")
    takes_key_string = not {"key_string", "session_token", "requests"}.isdisjoint(
        method.input_type.fields_by_name
    )
    observe = metrics.rpc_seconds.labels(method.name).observe

    async def handle(data: bytes, context: Context) -> Message:
        started = time.perf_counter()
        entered = False
        try:
            gate.enter(context)
            entered = True
            address = _address(context)
            verdict = verifier.authenticate(_bearer(context), address)
            caller = _caller(verdict if isinstance(verdict, Verdict) else await verdict, address)
            if changes:
                caller = caller._replace(deadline=_deadline(context), request_id=_request_id(context))
            if caller.lacks((scope,)):
                raise PermissionDenied(
                    f"{method.name} needs the scope {scope}", reason="SCOPE_MISSING", required_scope=scope
                )
            response = await serve(caller, _parse(request_type, data, takes_key_string))
        except AuthsvcError as error:
            metrics.rpc_errors.labels(method.name, code_of(error).name).inc()
            await context.abort_with_status(status_of(error))
        except Exception:  # noqa: BLE001 - the client gets a status, whatever happens
            metrics.rpc_errors.labels(method.name, grpc.StatusCode.INTERNAL.name).inc()
            _log.exception("a fault in %s", method.name)
            await context.abort(grpc.StatusCode.INTERNAL, "a fault of the service; its log says more")
        else:
            return response
        finally:
            if entered:
                gate.leave(context)
            observe(time.perf_counter() - started)
        raise AssertionError("abort always raises")

    return handle


def _bearer(context: Context) -> str:
    """Return what the caller presents (RFC 6750)."""
    presented = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    if not presented:
        raise Unauthenticated(
            "send your key: authorization: Bearer <key string>", reason="CREDENTIAL_MISSING"
        )
    if len(presented) > 1:
        raise Unauthenticated("send one authorization header, not several", reason="CREDENTIAL_AMBIGUOUS")
    header = str(presented[0])
    if header[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated(
            "the authorization header has another scheme; use: Bearer <key string>",
            reason="CREDENTIAL_SCHEME",
        )
    return header[len(_SCHEME) :].strip()


def _caller(verdict: Verdict, address: str) -> Caller:
    if verdict.code is VerdictCode.VALID and verdict.credential is not None:
        known = verdict.credential
        return Caller(known.credential_id, known.owner_id, known.scopes, known.kind, address)
    reason, problem = _REFUSALS[verdict.code]
    raise Unauthenticated(f"the credential in the authorization header {problem}", reason=reason)


def _address(context: Context) -> str:
    """Return the peer's address, `ipv4:192.0.2.1:4711` or `ipv6:%5B2001:db8::1%5D:4711` to gRPC."""
    peer = context.peer()
    if peer.startswith("ipv4:"):
        return peer[5 : peer.rindex(":")]
    return unquote(peer[5:]).rpartition(":")[0].strip("[]") if peer.startswith("ipv6:") else ""


def _request_id(context: Context) -> str:
    """Return what the caller names this call, as far as it may be kept; "" if it is too long or a secret."""
    for name, value in context.invocation_metadata() or ():
        if name == "x-request-id":
            named = str(value)
            fits = len(named) <= _LONGEST_REQUEST_ID and named.isprintable() and redact(named) == named
            return named if fits else ""
    return ""


def _deadline(context: Context) -> float:
    """Return until when the caller waits, by the stopwatch: a little less, so that our answer arrives."""
    left = context.time_remaining()
    return math.inf if left is None else boottime() + max(0.5 * left, left - _ANSWER_TAKES)


def _parse(request_type: type[Message], data: bytes, takes_key_string: bool) -> Message:
    if not takes_key_string and len(data) > _MOST_BYTES:
        problem = f"has {len(data)} bytes; none of this kind needs more than {_MOST_BYTES}"
        raise InvalidArgument(FieldViolation("", "request.size", problem))
    try:
        request = request_type.FromString(data)
    except DecodeError as error:
        problem = "is no protobuf message of this type, or holds text that is not UTF-8"
        raise InvalidArgument(FieldViolation("", "request.decodable", problem)) from error
    # Before any error that could repeat it.
    if not takes_key_string and redact(text := data.decode("utf-8", "replace")) != text:
        problem = "a key string stands where none belongs; leave it out, and revoke that key if others saw it"
        raise InvalidArgument(FieldViolation("", "request.no_key_string", problem))
    if len(data) > _MANY:
        _refuse_too_many(request)
    violations = protovalidate.collect_violations(request)
    if violations:
        raise InvalidArgument(*(_violation(v.proto) for v in violations))
    return request


def _refuse_too_many(message: Message, path: str = "") -> None:
    """Refuse lists that are far too long before each of their items is looked at."""
    for field, value in message.ListFields():
        here = f"{path}{field.name}"
        if field.is_repeated and len(value) > _MOST_ITEMS:
            problem = f"has {len(value)} items; no list takes more than {_MOST_ITEMS}"
            raise InvalidArgument(FieldViolation(here, "repeated.max_items", problem))
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for index, child in enumerate(value) if field.is_repeated else ((None, value),):
            _refuse_too_many(child, f"{here}." if index is None else f"{here}[{index}].")


def _violation(violation: Any) -> FieldViolation:
    """Return protovalidate's violation with its field as a path, for instance `requests[3].client_ip`."""
    path = ""
    for element in violation.field.elements if violation.field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        match element.subscript:
            case None:
                pass
            case subscript:
                path += (
                    f"[{subscript.value!r}]" if isinstance(subscript.value, str) else f"[{subscript.value}]"
                )
    return FieldViolation(path, violation.rule_id, violation.message)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
