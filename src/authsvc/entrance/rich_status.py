"""A refusal as `google.rpc.Status`, the content of `grpc-status-details-bin` (AIP-193)."""

from collections.abc import Iterable, Mapping

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN = "authsvc"
# Trailers hold about 8 KiB.
_MAX_MESSAGE_LENGTH = 400
_MAX_METADATA_LENGTH = 3200


def rich_status(
    code: int,
    message: str,
    reason: str,
    metadata: Mapping[str, str],
    *,
    details: Iterable[Message] = (),
    retry_after: float | None = None,
) -> Status:
    """Return a status with ErrorInfo, the other details, and RetryInfo if `retry_after` (seconds) is given.

    `code` is a number of `google.rpc.Code`. Texts that are too long for trailers are cut.
    """
    told = {name: value[:_MAX_METADATA_LENGTH] for name, value in metadata.items()}
    every: list[Message] = [ErrorInfo(reason=reason, domain=DOMAIN, metadata=told), *details]
    if retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(round(retry_after * 1000))
        every.append(retry)
    status = Status(code=code, message=message[:_MAX_MESSAGE_LENGTH])
    for detail in every:
        status.details.add().Pack(detail)
    return status
