"""Errors in the form of the Connect protocol: a status of HTTP, and JSON with the code and the details."""

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

# By code: its name, and the status of HTTP (the Connect protocol, "Error codes").
_CODES: Mapping[int, tuple[str, int]] = {
    grpc.StatusCode.CANCELLED.value[0]: ("canceled", 499),
    grpc.StatusCode.UNKNOWN.value[0]: ("unknown", 500),
    grpc.StatusCode.INVALID_ARGUMENT.value[0]: ("invalid_argument", 400),
    grpc.StatusCode.DEADLINE_EXCEEDED.value[0]: ("deadline_exceeded", 504),
    grpc.StatusCode.NOT_FOUND.value[0]: ("not_found", 404),
    grpc.StatusCode.ALREADY_EXISTS.value[0]: ("already_exists", 409),
    grpc.StatusCode.PERMISSION_DENIED.value[0]: ("permission_denied", 403),
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]: ("resource_exhausted", 429),
    grpc.StatusCode.FAILED_PRECONDITION.value[0]: ("failed_precondition", 400),
    grpc.StatusCode.ABORTED.value[0]: ("aborted", 409),
    grpc.StatusCode.OUT_OF_RANGE.value[0]: ("out_of_range", 400),
    grpc.StatusCode.UNIMPLEMENTED.value[0]: ("unimplemented", 501),
    grpc.StatusCode.INTERNAL.value[0]: ("internal", 500),
    grpc.StatusCode.UNAVAILABLE.value[0]: ("unavailable", 503),
    grpc.StatusCode.DATA_LOSS.value[0]: ("data_loss", 500),
    grpc.StatusCode.UNAUTHENTICATED.value[0]: ("unauthenticated", 401),
}
# The details that are also shown as JSON.
_SHOWN: Mapping[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind for kind in (BadRequest, ErrorInfo, RetryInfo)
}


class ErrorAnswer(NamedTuple):
    """An error as an answer of HTTP."""

    http_status: int
    headers: list[tuple[str, str]]
    body: bytes


def error_answer(status: Status) -> ErrorAnswer:
    """Return the answer for an error with its details."""
    name, http_status = _CODES[status.code]
    told: dict[str, object] = {"code": name}
    if status.message:
        told["message"] = status.message
    if status.details:
        told["details"] = [_detail(each) for each in status.details]
    headers = []
    if seconds := _retry_after(status):
        headers.append(("retry-after", str(seconds)))
    if status.code == grpc.StatusCode.UNAUTHENTICATED.value[0]:
        headers.append(("www-authenticate", 'Bearer realm="authsvc"'))
    return ErrorAnswer(http_status, headers, json.dumps(told, ensure_ascii=False).encode())


def _detail(packed: AnyMessage) -> dict[str, object]:
    kind = packed.type_url.rpartition("/")[2]
    told: dict[str, object] = {"type": kind, "value": b64encode(packed.value).decode().rstrip("=")}
    if kind in _SHOWN:
        told["debug"] = MessageToDict(_SHOWN[kind].FromString(packed.value))
    return told


def _retry_after(status: Status) -> int:
    """Return after how many seconds the call may be tried again, rounded up; 0 if that is not known."""
    for packed in status.details:
        if packed.Is(RetryInfo.DESCRIPTOR):
            delay: Duration = RetryInfo.FromString(packed.value).retry_delay
            return max(1, math.ceil(delay.ToMilliseconds() / 1000))
    return 0
