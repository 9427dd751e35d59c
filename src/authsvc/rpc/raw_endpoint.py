"""The way in for RPCs of other people's protocols: as `endpoint`, for bytes that are theirs to read.

bytes → gate → authenticate → scopes → serve → bytes. What is raised becomes a status, never an answer.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message

from authsvc.errors import AuthsvcError, PermissionDenied
from authsvc.model.caller import Caller
from authsvc.model.verdict import Verdict
from authsvc.rpc.endpoint import Context, _address, _bearer, _caller
from authsvc.rpc.gate import Gate
from authsvc.rpc.status import code_of, status_of
from authsvc.telemetry import Metrics
from authsvc.verify.verifier import Verifier

_log = logging.getLogger(__name__)


class Raw(NamedTuple):
    """An RPC of a service, for callers that have all of `scopes`. `serve` raises DecodeError for rubbish."""

    service: str
    method: str
    scopes: Sequence[str]
    serve: Callable[[Caller, bytes], Awaitable[Message]]


def raw_handler(raw: Raw, verifier: Verifier, metrics: Metrics, gate: Gate) -> grpc.GenericRpcHandler:
    """Return the handler of one RPC."""
    service, method, scopes, serve = raw
    observe = metrics.rpc_seconds.labels(method).observe

    async def handle(data: bytes, context: Context) -> Message:
        started = time.perf_counter()
        entered = False
        try:
            gate.enter(context)
            entered = True
            address = _address(context)
            verdict = verifier.authenticate(_bearer(context), address)
            caller = _caller(verdict if isinstance(verdict, Verdict) else await verdict, address)
            if lacking := caller.lacks(scopes):
                raise PermissionDenied(
                    f"{method} needs the scopes {', '.join(scopes)}",
                    reason="SCOPE_MISSING",
                    required_scope=lacking[0],
                )
            response = await serve(caller, data)
        except AuthsvcError as error:
            metrics.rpc_errors.labels(method, code_of(error).name).inc()
            await context.abort_with_status(status_of(error))
        except DecodeError:
            metrics.rpc_errors.labels(method, grpc.StatusCode.INVALID_ARGUMENT.name).inc()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no message of this protocol")
        except Exception:  # noqa: BLE001 - the client gets a status, whatever happens
            metrics.rpc_errors.labels(method, grpc.StatusCode.INTERNAL.name).inc()
            _log.exception("a fault in %s", method)
            await context.abort(grpc.StatusCode.INTERNAL, "a fault of the service; its log says more")
        else:
            return response
        finally:
            if entered:
                gate.leave(context)
            observe(time.perf_counter() - started)
        raise AssertionError("abort always raises")

    handlers: dict[str, grpc.RpcMethodHandler[bytes, Message]] = {
        method: grpc.unary_unary_rpc_method_handler(handle, response_serializer=_serialize)
    }
    return grpc.method_handlers_generic_handler(service, handlers)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
