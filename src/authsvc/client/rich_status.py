"""Reads and writes the details of a gRPC status (AIP-193) with only the protobuf messages."""

from collections.abc import Iterable, Mapping

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN = "authsvc"
_TRAILER = "grpc-status-details-bin"


def read(trailers: Iterable[tuple[str, str | bytes]] | None) -> tuple[str, float | None]:
    """Return the reason of authsvc, or "", and the seconds after which to retry, or None."""
    reason, retry_after = "", None
    for name, value in trailers or ():
        if name != _TRAILER or not isinstance(value, bytes):
            continue
        try:
            details = Status.FromString(value).details
            for detail in details:
                info, retry = ErrorInfo(), RetryInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    reason = info.reason
                elif detail.Unpack(retry):
                    retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        except DecodeError:  # from a proxy between us and authsvc
            continue
    return reason, retry_after


def write(
    code: grpc.StatusCode,
    message: str,
    reason: str,
    metadata: Mapping[str, str],
    retry_after: float | None = None,
) -> tuple[tuple[str, bytes], ...]:
    """Return the trailers of a refusal."""
    details: list[ErrorInfo | RetryInfo] = [ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)]
    if retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(round(retry_after * 1000))
        details.append(retry)
    status = Status(code=code.value[0], message=message)
    for detail in details:
        envelope = Any()
        envelope.Pack(detail)
        status.details.append(envelope)
    return ((_TRAILER, status.SerializeToString()),)
