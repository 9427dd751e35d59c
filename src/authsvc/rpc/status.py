"""Domain errors as gRPC statuses with `google.rpc` details (AIP-193)."""

from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from authsvc.entrance.code import code_of
from authsvc.entrance.rich_status import cut, rich_status
from authsvc.model import errors
from authsvc.rpc.confirmation import Trailers

# Trailers hold about 8 KiB, so only the first violations are reported: at most 10, and as many as fit into
# these bytes, which the message and ErrorInfo leave. Texts are cut to so many characters and bytes.
_MAX_VIOLATIONS, _MAX_BYTES = 10, 4200
_MAX_TEXT_LENGTH, _MAX_TEXT_BYTES = 200, 400


def status_of(error: errors.AuthsvcError, trailers: Trailers = ()) -> grpc.Status:
    """Return the gRPC status of a domain error, with its details and further trailers."""
    violations = error.violations if isinstance(error, errors.InvalidArgument) else ()
    bad = BadRequest()
    for violation in violations[:_MAX_VIOLATIONS]:
        bad.field_violations.add(
            field=_cut(violation.field),
            description=_cut(violation.description),
            reason=_reason(violation.rule),
        )
        if bad.ByteSize() > _MAX_BYTES:
            del bad.field_violations[-1]
            break
    told = rich_status(
        code_of(error),
        error.message,
        error.reason,
        error.metadata,
        details=[bad] if violations else (),
        retry_after=error.retry_after if isinstance(error, errors.RetryableError) else None,
    )
    status: Any = rpc_status.to_status(told)  # a named tuple
    with_trailers: grpc.Status = status._replace(trailing_metadata=(*status.trailing_metadata, *trailers))
    return with_trailers


def _cut(text: str) -> str:
    return cut(text[:_MAX_TEXT_LENGTH], _MAX_TEXT_BYTES)


def _reason(rule: str) -> str:
    return rule.upper().replace(".", "_")
