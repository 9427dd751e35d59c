"""What can go wrong when authsvc is asked. A bad credential is a verdict, none of these.

    ClientError
    ├── Unavailable   nobody can know right now: let nothing pass, and call nobody unauthorized
    └── Refused       our own key, or what we ask, is wrong: somebody has to mend it

No message holds a key string: they repeat what authsvc and gRPC said, never what was sent.
"""

import grpc

from authsvc.client import rich_status

# What asking again does not mend.
_REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
}


class ClientError(Exception):
    """The root. `code` is gRPC's; `reason` is authsvc's stable UPPER_SNAKE, "" when it said none."""

    def __init__(self, message: str, *, code: grpc.StatusCode, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Unavailable(ClientError):
    """Nobody can know right now. `retry_after` is in seconds, None when authsvc did not say."""

    def __init__(
        self, message: str, *, code: grpc.StatusCode, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.retry_after = retry_after


class Refused(ClientError):
    """Authsvc does not answer us, and will not until something is mended."""


def error_of(call: grpc.aio.AioRpcError | TimeoutError) -> Unavailable | Refused:
    """Return what a failed call means."""
    if isinstance(call, TimeoutError):
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        return Unavailable(f"authsvc cannot say: no answer in time ({code.name})", code=code)
    code, told = call.code(), call.details() or ""
    reason, retry_after = rich_status.read(call.trailing_metadata())
    if code in _REFUSALS:
        return Refused(f"authsvc refuses us: {told} ({code.name})", code=code, reason=reason)
    return Unavailable(
        f"authsvc cannot say: {told} ({code.name})", code=code, reason=reason, retry_after=retry_after
    )
