"""Domain errors as gRPC statuses with `google.rpc` details (AIP-193)."""

import grpc
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from authsvc.entrance.code import code_of
from authsvc.entrance.rich_status import rich_status
from authsvc.model import errors

# Trailers hold about 8 KiB, so only the first violations are reported, and texts are cut to so many
# characters.
_MAX_VIOLATIONS = 10
_MAX_TEXT_LENGTH = 200


def status_of(error: errors.AuthsvcError) -> grpc.Status:
    """Return the gRPC status of a domain error, with its details."""
    violations = error.violations if isinstance(error, errors.InvalidArgument) else ()
    bad = [
        BadRequest.FieldViolation(
            field=v.field[:_MAX_TEXT_LENGTH],
            description=v.description[:_MAX_TEXT_LENGTH],
            reason=_reason(v.rule),
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
