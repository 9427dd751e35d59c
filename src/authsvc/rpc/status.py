"""Domain errors as gRPC statuses with `google.rpc` details (AIP-193): the one table."""

import grpc
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from authsvc.entrance.code import code_of
from authsvc.entrance.rich_status import rich_status
from authsvc.model import errors

# Trailers hold about 8 KiB, so a client that sends much that is wrong is told of the first of it.
_MAX_VIOLATIONS = 10
_MAX_TEXT = 200


def status_of(error: errors.AuthsvcError) -> grpc.Status:
    """Return the gRPC status of a domain error, with its details."""
    violations = error.violations if isinstance(error, errors.InvalidArgument) else ()
    bad = [
        BadRequest.FieldViolation(
            field=v.field[:_MAX_TEXT], description=v.description[:_MAX_TEXT], reason=_reason(v.rule)
        )
        for v in violations[:_MAX_VIOLATIONS]
    ]
    told = rich_status(
        code_of(error),
        error.message,
        error.reason,
        error.metadata,
        details=[BadRequest(field_violations=bad)] if bad else (),
        retry_after=error.retry_after if isinstance(error, errors.RetryableError) else None,
    )
    status: grpc.Status = rpc_status.to_status(told)
    return status


def _reason(rule: str) -> str:
    return rule.upper().replace(".", "_")
