"""A refusal as `google.rpc.Status`, the content of `grpc-status-details-bin` (AIP-193).

Bound: clients refuse trailers of more than 8 KiB by default, and then show neither the code nor the reason.
So texts are cut, and details are left out, by their bytes as they are sent: a message percent-encoded,
details in base64. Code, reason and RetryInfo are always sent.
"""

from collections.abc import Iterable, Mapping

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN = "authsvc"
#: Bytes of a message, percent-encoded, and of all details before base64: together 7.5 KiB of 8.
MAX_MESSAGE_BYTES, MAX_DETAILS_BYTES = 1200, 4800
# Of the values of metadata, together.
_MAX_METADATA_BYTES = 3200
_MAX_MESSAGE_LENGTH = 400
# What gRPC sends unchanged in `grpc-message`.
_PLAIN = frozenset(map(chr, range(0x20, 0x7F))) - {"%"}


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

    `code` is a number of `google.rpc.Code`. What is too much for trailers is cut or left out.
    """
    status = Status(code=code, message=_sendable(message[:_MAX_MESSAGE_LENGTH]))
    told, left = {}, _MAX_METADATA_BYTES
    for name, value in metadata.items():
        told[name] = _cut_list(value, left)
        left -= len(told[name].encode())
    every: list[Message] = [ErrorInfo(reason=reason, domain=DOMAIN, metadata=told)]
    if retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(round(retry_after * 1000))
        every.append(retry)
    for detail in (*every, *details):
        status.details.add().Pack(detail)
        if status.ByteSize() > MAX_DETAILS_BYTES:
            del status.details[-1]
    return status


def cut(text: str, size: int) -> str:
    """Return as much of a text as has at most `size` bytes in UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def _cut_list(text: str, size: int) -> str:
    """Cut a text that may be a list with commas, of which whole items are kept."""
    kept = cut(text, size)
    return kept if kept == text else kept.rpartition(",")[0] or kept


def _sendable(text: str) -> str:
    """Return as much of a message as gRPC sends in `MAX_MESSAGE_BYTES`."""
    if text.isascii():
        return text[: MAX_MESSAGE_BYTES // 3]
    left = MAX_MESSAGE_BYTES
    for index, character in enumerate(text):
        left -= 1 if character in _PLAIN else 3 * len(character.encode())
        if left < 0:
            return text[:index]
    return text
