"""How a client sees a refused RPC."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status


@dataclass
class Refusal:
    """The contents of the error; filled in when the block ends."""

    message: str = ""
    info: ErrorInfo = field(default_factory=ErrorInfo)
    fields: dict[str, str] = field(default_factory=dict)
    retry_seconds: float | None = None


@contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[Refusal]:
    """Expect an RPC in the block to fail with this code and reason."""
    refusal = Refusal()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield refusal
    error = caught.value
    assert error.code() is code, error
    status = rpc_status.from_call(error)
    assert status is not None
    refusal.message = status.message
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(refusal.info)
        elif detail.Is(BadRequest.DESCRIPTOR):
            bad = BadRequest()
            detail.Unpack(bad)
            refusal.fields = {v.field: v.description for v in bad.field_violations}
        elif detail.Is(RetryInfo.DESCRIPTOR):
            retry = RetryInfo()
            detail.Unpack(retry)
            refusal.retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    assert refusal.info.domain == "authsvc"
    assert refusal.info.reason == reason


def missing(header: str, transport: str) -> tuple[grpc.StatusCode, str]:
    """Return how an authorization header without a key is refused; the lane lets none end with a blank."""
    if header.endswith(" ") and transport == "lane":
        return grpc.StatusCode.UNAUTHENTICATED, "HEADER_MALFORMED"
    return grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING"
