"""Errors of calls to authsvc. A credential that is not valid is a verdict, not an error.

    ClientError
    ├── Unavailable   the credential cannot be verified right now: neither accept nor reject it
    └── Refused       the client's own key or its request is wrong: fix the configuration

Messages contain no key strings. They repeat the messages of authsvc and gRPC, never the request.
"""

from typing import TypeVar

import grpc

from authsvc.client import rich_status

_Answer = TypeVar("_Answer")

# Codes for which a retry does not help.
_REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
}


class ClientError(Exception):
    """The base class. `code` is gRPC's; `reason` is authsvc's stable UPPER_SNAKE reason, or ""."""

    def __init__(self, message: str, *, code: grpc.StatusCode, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Unavailable(ClientError):
    """The credential cannot be verified right now. `retry_after` is in seconds; None if it is not known."""

    def __init__(
        self, message: str, *, code: grpc.StatusCode, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.retry_after = retry_after


class Refused(ClientError):
    """Authsvc refuses the request. A retry fails until the cause is fixed."""


def error_of(call: grpc.aio.AioRpcError | TimeoutError) -> Unavailable | Refused:
    """Return the error for a failed call."""
    if isinstance(call, TimeoutError):
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        return Unavailable(f"authsvc cannot verify it: no answer in time ({code.name})", code=code)
    code, details = call.code(), call.details() or ""
    reason, retry_after = rich_status.read(call.trailing_metadata())
    if code in _REFUSALS:
        return Refused(f"authsvc refuses the request: {details} ({code.name})", code=code, reason=reason)
    message = f"authsvc cannot verify it: {details} ({code.name})"
    return Unavailable(message, code=code, reason=reason, retry_after=retry_after)


def closed() -> Unavailable:
    """Return the error for a call that was waiting when the client was closed."""
    return Unavailable("the client was closed", code=grpc.StatusCode.CANCELLED, reason="CLIENT_CLOSED")


def readable(answer: _Answer | None) -> _Answer:
    """Return an answer. Raise Unavailable for None, which gRPC returns for one that it cannot decode."""
    if answer is None:
        code = grpc.StatusCode.INTERNAL
        raise Unavailable(f"authsvc cannot verify it: its answer cannot be read ({code.name})", code=code)
    return answer
