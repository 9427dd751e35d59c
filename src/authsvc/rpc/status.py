"""Domain errors as gRPC statuses with `google.rpc` details (AIP-193): the one table."""

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from authsvc import errors

_CODES = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AlreadyDone: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Trailers hold about 8 KiB, so a client that sends much that is wrong is told of the first of it.
_MOST_VIOLATIONS = 10
_MOST_TEXT = 200
_MOST_METADATA = 3200


def code_of(error: errors.AuthsvcError) -> grpc.StatusCode:
    """Return the gRPC code of a domain error."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def status_of(error: errors.AuthsvcError) -> grpc.Status:
    """Return the gRPC status of a domain error, with its details."""
    metadata = {name: value[:_MOST_METADATA] for name, value in error.metadata.items()}
    details = [ErrorInfo(reason=error.reason, domain="authsvc", metadata=metadata)]
    if isinstance(error, errors.InvalidArgument):
        violations = [
            BadRequest.FieldViolation(
                field=v.field[:_MOST_TEXT], description=v.description[:_MOST_TEXT], reason=_reason(v.rule)
            )
            for v in error.violations[:_MOST_VIOLATIONS]
        ]
        details.append(BadRequest(field_violations=violations))
    if isinstance(error, errors.Passing):
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after * 1000))
        details.append(retry)
    packed = [Any() for _ in details]
    for envelope, detail in zip(packed, details, strict=True):
        envelope.Pack(detail)
    status: grpc.Status = rpc_status.to_status(
        Status(code=code_of(error).value[0], message=error.message[: 2 * _MOST_TEXT], details=packed)
    )
    return status


def _reason(rule: str) -> str:
    return rule.upper().replace(".", "_")
