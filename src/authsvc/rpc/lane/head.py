"""The headers of a gRPC call, and of its answer (gRPC over HTTP/2, "PROTOCOL-HTTP2.md" of grpc/grpc).

Only what the transport and `rpc.context` read is kept of a call's headers.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import grpc

from authsvc.rpc.limits import MAX_HEADER_BYTES

Answer = list[tuple[bytes, bytes]]
Metadata = tuple[tuple[str, str | bytes], ...]

# What each header counts in addition to its name and its value (RFC 9113, 6.5.2).
_FIELD_BYTES = 32
#: The headers before an answer, and after one that is OK.
ANSWER = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_ENCODINGS = (b"grpc-accept-encoding", b"identity,deflate,gzip")
OK = ((b"grpc-status", b"0"),)
# Seconds for each unit of a timeout, which has up to eight digits and is not zero.
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"(?!0+[^0-9])[0-9]{1,8}[HMSmun]")
_ZERO = re.compile(rb"0{1,8}[HMSmun]")
# What `grpc-message` holds as it is: printable ASCII without the percent sign.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


#: What is told to callers whose deadline has passed.
LATE = "the deadline of the call has passed"
_GRPC = b"application/grpc"
_GRPC_TYPES = (b"application/grpc+", b"application/grpc;")
# What is kept for `rpc.context.incoming_call`.
_USUAL = "authorization", "x-forwarded-for", "x-request-id"


class Head(NamedTuple):
    """What is read of a call's headers."""

    path: str
    # Those that `rpc.context.incoming_call` reads, in order.
    metadata: list[tuple[str, str]]
    # The value of `grpc-timeout`, and of `grpc-encoding`; empty if it is absent.
    timeout: bytes
    encoding: bytes
    # The headers that refuse the call; None if it is a proper call of gRPC.
    refusal: Answer | None

    def __repr__(self) -> str:
        """Return a text without the credential, so that no log line or traceback has it."""
        return f"Head({self.path!r})"


def reader(*others: str) -> Callable[[Sequence[tuple[bytes, bytes]]], Head]:
    """Return what reads the headers of requests, and also keeps those of these names."""
    kept = {name.encode(): name for name in (*_USUAL, *others)}

    def read(headers: Sequence[tuple[bytes, bytes]]) -> Head:
        """Return what the headers of a request say."""
        fields = dict(headers)
        if len(fields) == len(headers):
            found = [(name, fields[key]) for key, name in kept.items() if key in fields]
            size = sum(map(len, fields)) + sum(map(len, fields.values()))
        else:  # a name is repeated
            found = [(kept[key], value) for key, value in headers if key in kept]
            size = sum(len(key) + len(value) for key, value in headers)
        content_type, timeout = fields.get(b"content-type", b""), fields.get(b"grpc-timeout")
        is_proper = (
            fields.get(b":method") == b"POST"
            and (content_type == _GRPC or content_type.startswith(_GRPC_TYPES))
            and b"te" in fields  # HTTP/2 allows it only one value
            and (timeout is None or _TIMEOUT.fullmatch(timeout) is not None)
            and size + _FIELD_BYTES * len(headers) <= MAX_HEADER_BYTES
        )
        return Head(
            fields.get(b":path", b"").decode("ascii", "replace"),
            [(name, value.decode("utf-8", "replace")) for name, value in found],
            timeout or b"",
            fields.get(b"grpc-encoding", b""),
            None if is_proper else _refusal(fields, content_type, timeout),
        )

    return read


#: Reads the headers that every call is looked at for.
read = reader()


def _refusal(fields: Mapping[bytes, bytes], content_type: bytes, timeout: bytes | None) -> Answer:
    if fields.get(b":method") != b"POST":
        return [(b":status", b"405"), (b"allow", b"POST")]
    if content_type != _GRPC and not content_type.startswith(_GRPC_TYPES):
        return [(b":status", b"415"), (b"accept", _GRPC)]
    if b"te" not in fields:
        return _NO_TRAILERS
    if timeout is not None and not _TIMEOUT.fullmatch(timeout):
        return _LATE if _ZERO.fullmatch(timeout) else _NO_TIMEOUT
    return _TOO_LARGE


def seconds(timeout: bytes) -> float | None:
    """Return a timeout in seconds; None for none."""
    return int(timeout[:-1]) * _UNITS[timeout[-1:]] if timeout else None


def status(code: grpc.StatusCode, message: str, metadata: Metadata = ()) -> Answer:
    """Return the trailers that end a call by a status."""
    number: int = code.value[0]
    trailers = [(b"grpc-status", str(number).encode())]
    if message:
        trailers.append((b"grpc-message", quote(message, safe=_PLAIN).encode()))
    return trailers + encoded(metadata)


def ok(metadata: Metadata) -> Answer:
    """Return the trailers that end a call by OK."""
    return [*OK, *encoded(metadata)]


def encoded(metadata: Metadata) -> Answer:
    """Return metadata as headers: values of names with -bin in base64 without padding."""
    return [
        (
            name.encode(),
            b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode("ascii", "replace"),
        )
        for name, value in metadata
    ]


def only_status(trailers: Answer) -> Answer:
    """Return the headers of an answer that is a status only."""
    return [*ANSWER, _ENCODINGS, *trailers]


_TOO_LARGE = only_status(
    status(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"the headers of the call have more than {MAX_HEADER_BYTES} bytes"
    )
)
# What drops this header most likely drops trailers, too, so the client would learn no status.
_NO_TRAILERS = only_status(
    status(
        grpc.StatusCode.INTERNAL,
        "the header `te: trailers` is missing; does a proxy in between remove it? It has to forward gRPC",
    )
)
_NO_TIMEOUT = only_status(
    status(
        grpc.StatusCode.INTERNAL,
        "grpc-timeout is malformed; use up to eight digits and a unit (H, M, S, m, u, n), such as 500m",
    )
)
_LATE = only_status(status(grpc.StatusCode.DEADLINE_EXCEEDED, LATE))
