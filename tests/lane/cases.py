"""Requests, proper and broken, that are sent as raw frames to both transports."""

import gzip
import struct
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from authsvc.rpc.limits import MAX_MESSAGE_BYTES
from authsvc.v1 import key_service_pb2 as pb
from tests.http2 import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, frame, message
from tests.lane.exchange import PADDED, PRIORITY_FLAG, Exchange, Field, block, data, headers

VERIFY = "/authsvc.v1.KeyService/VerifyKey"
_PRIORITY, _UNKNOWN = 2, 0x77


@dataclass(frozen=True)
class Known:
    """What a request may use."""

    admin_key: str
    key_string: str

    @property
    def message(self) -> bytes:
        """A framed VerifyKeyRequest with a valid key string."""
        return message(self.request)

    @property
    def request(self) -> bytes:
        return pb.VerifyKeyRequest(key_string=self.key_string).SerializeToString()

    def sized(self, size: int) -> bytes:
        """Return a framed request of exactly `size` bytes."""
        room = size - len(pb.VerifyKeyRequest(key_string="x" * size).SerializeToString()) + size
        request = pb.VerifyKeyRequest(key_string="x" * room).SerializeToString()
        assert len(request) == size
        return message(request)

    def fields(self, *more: Field, without: Sequence[str] = (), **pseudo: str | bytes) -> list[Field]:
        """Return the headers of a proper call, with changes; names in keywords are pseudo-headers."""
        found: list[Field] = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", VERIFY),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", f"Bearer {self.admin_key}"),
        ]
        named = {name for name, _ in more} & {"content-type", "te"}
        changed = [
            (name, pseudo.get(str(name)[1:], value) if str(name).startswith(":") else value)
            for name, value in found
            if name not in without and name not in named
        ]
        return [*changed, *more]


Send = Callable[[Exchange, Known], Awaitable[None]]
CASES: dict[str, Send] = {}


def case(name: str) -> Callable[[Send], Send]:
    def add(send: Send) -> Send:
        assert name not in CASES
        CASES[name] = send
        return send

    return add


def with_fields(
    name: str, *more: Field, without: Sequence[str] = (), body: bytes | None = None, **pseudo: str | bytes
) -> None:
    """Add a case that differs by its headers only; `body` replaces the framed message."""

    async def send(exchange: Exchange, known: Known) -> None:
        fields = known.fields(*more, without=without, **pseudo)
        exchange.write(headers(fields) + data(known.message if body is None else body, end=True))

    case(name)(send)


def with_body(name: str, body: Callable[[Known], bytes], *more: Field) -> None:
    """Add a case that differs by its data."""

    async def send(exchange: Exchange, known: Known) -> None:
        exchange.write(headers(known.fields(*more)))
        await exchange.send(body(known))

    case(name)(send)


def with_frames(name: str, frames: Callable[[Known], bytes]) -> None:
    """Add a case that is made of any frames."""

    async def send(exchange: Exchange, known: Known) -> None:
        exchange.write(frames(known))

    case(name)(send)


with_fields("a proper call")

# Headers that gRPC names.
with_fields("te absent", without=["te"])
with_fields("te gzip", ("te", "gzip"))
with_fields("te trailers and more", ("te", "trailers, deflate"))
with_fields("content-type absent", without=["content-type"])
for kind in (
    "application/json",
    "text/html",
    "application/grpc+proto",
    "application/grpc+json",
    "application/grpc;charset=utf-8",
    "application/grpc-web",
    "application/grpcx",
    "Application/gRPC",
    "application/grpc ",
    "",
):
    with_fields(f"content-type {kind!r}", ("content-type", kind))
for method in ("GET", "PUT", "OPTIONS", "HEAD", "post", "CONNECT"):
    with_fields(f"method {method}", method=method)
with_fields("CONNECT as RFC 9113 has it", without=[":scheme", ":path"], method="CONNECT")
with_fields("extended CONNECT", (":protocol", "websocket"), method="CONNECT")
with_fields("no method", without=[":method"])
with_fields("no scheme", without=[":scheme"])
with_fields("scheme https", scheme="https")
with_fields("scheme ftp", scheme="ftp")
with_fields("no path", without=[":path"])
with_fields("no authority", without=[":authority"])
with_fields("host instead of authority", ("host", "localhost"), without=[":authority"])
with_fields("host and authority differ", ("host", "elsewhere"))
for path in (
    "",
    "*",
    "/",
    "authsvc.v1.KeyService/VerifyKey",
    "/authsvc.v1.KeyService",
    "/authsvc.v1.KeyService/",
    "/authsvc.v1.KeyService/NoSuchMethod",
    "/no.such.Service/VerifyKey",
    VERIFY + "/",
    VERIFY + "?a=1",
    "/" + VERIFY,
    VERIFY.lower(),
    "/authsvc.v1.KeyService/%56erifyKey",
    "/authsvc.v1.KeyService/Vérify",
):
    with_fields(f"path {path!r}", path=path)
for timeout in (
    "10S", "1H", "99999999H", "100000m", "20000000u", "", "1", "S", "1X", "1s", "-1S", "+1S", "1.5S", "1 S",
    "123456789S", "00000010S", "0000000010S", "100000000000n", "0S", "0n", "1n", "1m",
):  # fmt: skip
    with_fields(f"grpc-timeout {timeout!r}", ("grpc-timeout", timeout))
with_fields("two grpc-timeouts", ("grpc-timeout", "10S"), ("grpc-timeout", "20S"))
with_fields("grpc-accept-encoding", ("grpc-accept-encoding", "gzip,br"), ("accept-encoding", "gzip"))
with_fields("user-agent", ("user-agent", "grpc-java-netty/1.70.0"))
with_fields("expect 100-continue", ("expect", "100-continue"))
with_fields("grpc-status in a request", ("grpc-status", "0"))

# Compression.
with_fields("grpc-encoding unknown, unused", ("grpc-encoding", "br"))
with_fields("grpc-encoding empty, unused", ("grpc-encoding", ""))
with_body("grpc-encoding identity", lambda known: known.message, ("grpc-encoding", "identity"))
with_body("grpc-encoding gzip, unused", lambda known: known.message, ("grpc-encoding", "gzip"))


def packed(content: bytes, flag: int = 1) -> bytes:
    return struct.pack(">BI", flag, len(content)) + content


with_body("gzip", lambda known: packed(gzip.compress(known.request)), ("grpc-encoding", "gzip"))
with_body("deflate", lambda known: packed(zlib.compress(known.request)), ("grpc-encoding", "deflate"))
with_body("GZIP", lambda known: packed(gzip.compress(known.request)), ("grpc-encoding", "GZIP"))
with_body("grpc-encoding unknown, used", lambda known: packed(known.request), ("grpc-encoding", "br"))
with_body("snappy", lambda known: packed(known.request), ("grpc-encoding", "snappy"))
with_body("identity, used", lambda known: packed(known.request), ("grpc-encoding", "identity"))
with_body("compressed without encoding", lambda known: packed(known.request))
with_body("flag 2", lambda known: packed(known.request, 2))
with_body(
    "flag 255, gzip", lambda known: packed(gzip.compress(known.request), 255), ("grpc-encoding", "gzip")
)
with_body("gzip of garbage", lambda known: packed(known.request), ("grpc-encoding", "gzip"))
with_body(
    "gzip cut short", lambda known: packed(gzip.compress(known.request)[:-9]), ("grpc-encoding", "gzip")
)
with_body(
    "gzip without its checksum",
    lambda known: packed(gzip.compress(known.request)[:-8]),
    ("grpc-encoding", "gzip"),
)
with_body(
    "gzip with a wrong checksum",
    lambda known: packed(gzip.compress(known.request)[:-8] + b"12345678"),
    ("grpc-encoding", "gzip"),
)
with_body(
    "gzip and more", lambda known: packed(gzip.compress(known.request) + b"more"), ("grpc-encoding", "gzip")
)
with_body(
    "gzip of two members",
    lambda known: packed(gzip.compress(known.request[:7]) + gzip.compress(known.request[7:])),
    ("grpc-encoding", "gzip"),
)
with_body(
    "gzip of a large message",
    lambda known: packed(gzip.compress(known.sized(MAX_MESSAGE_BYTES)[5:])),
    ("grpc-encoding", "gzip"),
)
with_body(
    "gzip of too large a message",
    lambda known: packed(gzip.compress(known.sized(MAX_MESSAGE_BYTES + 1)[5:])),
    ("grpc-encoding", "gzip"),
)
with_body("an empty message, compressed", lambda _: packed(b""), ("grpc-encoding", "gzip"))

# Messages, and how they are cut into frames.
with_frames("no message", lambda known: headers(known.fields(), flags=END_STREAM))
with_frames("no message, empty data", lambda known: headers(known.fields()) + data(b"", end=True))
with_body("an empty message", lambda _: message(b""))
with_body("no protobuf", lambda _: message(b"\xff\xff\xff"))
with_body("two messages", lambda known: known.message * 2)
with_body("three messages", lambda known: known.message * 3)
with_body("a message and half a prefix", lambda known: known.message + b"\0\0")
with_body("a message and half another", lambda known: known.message + known.message[:20])
with_body("half a prefix", lambda _: b"\0\0\0")
with_body("half a message", lambda known: known.message[:20])
with_body("a prefix only", lambda known: known.message[:5])
with_body("a length of 4 GiB", lambda _: b"\0\xff\xff\xff\xff")
with_body("a length of 4 GiB, begun", lambda _: b"\0\xff\xff\xff\xff" + b"x" * 1000)
with_body("the largest message", lambda known: known.sized(MAX_MESSAGE_BYTES))
with_body("too large a message", lambda known: known.sized(MAX_MESSAGE_BYTES + 1))
with_body("a large message", lambda known: known.sized(900 * 1024))
with_frames(
    "a byte a frame",
    lambda known: (
        headers(known.fields())
        + b"".join(data(known.message[at : at + 1]) for at in range(len(known.message)))
        + data(b"", end=True)
    ),
)
with_frames(
    "empty frames in between",
    lambda known: (
        headers(known.fields())
        + data(b"")
        + data(known.message[:9])
        + data(b"")
        + data(known.message[9:])
        + data(b"")
        + data(b"", end=True)
    ),
)
with_frames(
    "padding",
    lambda known: (
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\x07" + block(known.fields()) + b"\0" * 7)
        + frame(0, PADDED, 1, b"\xff" + known.message[:9] + b"\0" * 255)
        + frame(0, PADDED | END_STREAM, 1, b"\x00" + known.message[9:])
    ),
)
with_frames(
    "padding longer than the frame",
    lambda known: headers(known.fields()) + frame(0, PADDED | END_STREAM, 1, b"\xff" + known.message[:9]),
)
with_frames(
    "priorities",
    lambda known: (
        frame(_PRIORITY, 0, 1, struct.pack(">IB", 0, 200))
        + frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, struct.pack(">IB", 0, 9) + block(known.fields()))
        + frame(_PRIORITY, 0, 1, struct.pack(">IB", 7, 1))
        + data(known.message, end=True)
        + frame(_PRIORITY, 0, 9, struct.pack(">IB", 0, 1))
    ),
)
with_frames(
    "a stream that depends on itself",
    lambda known: (
        frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, struct.pack(">IB", 1, 9) + block(known.fields()))
        + data(known.message, end=True)
    ),
)
with_frames(
    "unknown frames",
    lambda known: (
        frame(_UNKNOWN, 0xFF, 0, b"x")
        + headers(known.fields())
        + frame(_UNKNOWN, 0xFF, 1, b"x" * 999)
        + data(known.message, end=True)
    ),
)
with_frames(
    "unknown settings",
    lambda known: (
        frame(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 7))
        + headers(known.fields())
        + data(known.message, end=True)
    ),
)
with_frames(
    "continuation",
    lambda known: headers(known.fields(), size=50) + data(known.message, end=True),
)
with_frames(
    "continuation with an empty HEADERS",
    lambda known: (
        frame(HEADERS, 0, 1)
        + frame(CONTINUATION, END_HEADERS, 1, block(known.fields()))
        + data(known.message, end=True)
    ),
)
with_frames(
    "a ping in between",
    lambda known: headers(known.fields()) + frame(PING, 0, 0, b"12345678") + data(known.message, end=True),
)
with_frames(
    "trailers from the client",
    lambda known: (
        headers(known.fields()) + data(known.message) + headers([("x-more", "yes")], flags=END_STREAM)
    ),
)
with_frames(
    "empty trailers from the client",
    lambda known: headers(known.fields()) + data(known.message) + headers([], flags=END_STREAM),
)
with_frames(
    "trailers that do not end the stream",
    lambda known: headers(known.fields()) + data(known.message) + headers([("x-more", "yes")]),
)
with_frames(
    "trailers with a pseudo-header",
    lambda known: headers(known.fields()) + data(known.message) + headers([(":path", "/")], flags=END_STREAM),
)
with_frames(
    "trailers instead of a message",
    lambda known: headers(known.fields()) + headers([("x-more", "yes")], flags=END_STREAM),
)
with_frames(
    "data after the end",
    lambda known: headers(known.fields()) + data(known.message, end=True) + data(known.message, end=True),
)

# Metadata.
with_fields("binary metadata", ("x-thing-bin", "AAEC/w"))
with_fields("padded binary metadata", ("x-thing-bin", "AAEC/w=="))
with_fields("binary metadata in pieces", ("x-thing-bin", "AAEC,/wAB"))
with_fields("binary metadata that is not base64", ("x-thing-bin", "%%%"))
with_fields("empty binary metadata", ("x-thing-bin", ""))
with_fields("trace context", ("grpc-trace-bin", "AAEC"), ("grpc-tags-bin", "AAEC"))
with_fields("unknown gRPC metadata", ("grpc-something", "1"))
with_fields("duplicate authorization", ("authorization", "Bearer x"))
with_fields("authorization in binary", ("authorization-bin", "AAEC"), without=["authorization"])
with_fields("no authorization", without=["authorization"])
with_fields("empty authorization", ("authorization", ""), without=["authorization"])
with_fields("Basic", ("authorization", "Basic eDp5"), without=["authorization"])
with_fields("Bearer only", ("authorization", "Bearer"), without=["authorization"])
with_fields("a wrong key", ("authorization", "Bearer nonsense"), without=["authorization"])
with_fields("authorization not UTF-8", ("authorization", b"Bearer \xff\xfe"), without=["authorization"])
with_fields("authorization in Latin-1", ("authorization", b"Bearer \xe9"), without=["authorization"])
with_fields("request id not UTF-8", ("x-request-id", b"\xff\xfe"))
with_fields("forwarded-for not UTF-8", ("x-forwarded-for", b"\xff\xfe"))
with_fields("other header not UTF-8", ("x-other", b"\xff\xfe"))
with_fields("UTF-8 in a header", ("x-other", "é"))
with_fields("an empty header", ("x-other", ""))
with_fields("a value that begins with a blank", ("x-other", " a"))
with_fields("a value that ends with a blank", ("x-other", "a "))
with_fields("a tab inside a value", ("x-other", "a\tb"))
with_fields("a NUL in a value", ("x-other", "a\0b"))
with_fields("a newline in a value", ("x-other", "a\nb"))
with_fields("DEL in a value", ("x-other", "a\x7fb"))
with_fields("a control character in a value", ("x-other", "a\x01b"))
with_fields("an upper-case name", ("X-Other", "a"))
with_fields("a name with a blank", ("x other", "a"))
with_fields("an empty name", ("", "a"))
with_fields("a name with a colon", ("x:other", "a"))
with_fields("an unknown pseudo-header", (":other", "a"))
with_fields("connection: close", ("connection", "close"))
with_fields("transfer-encoding", ("transfer-encoding", "chunked"))
with_fields("keep-alive", ("keep-alive", "1"))
with_fields("proxy-connection", ("proxy-connection", "keep-alive"))
with_fields("upgrade", ("upgrade", "h2c"))
with_fields("two paths", (":path", VERIFY))
with_frames(
    "a right content-length",
    lambda known: (
        headers(known.fields(("content-length", str(len(known.message))))) + data(known.message, end=True)
    ),
)
with_fields("a wrong content-length", ("content-length", "7"))
with_fields("a content-length that is no number", ("content-length", "x"))
with_fields("cookie in pieces", ("cookie", "a=1"), ("cookie", "b=2"))
for size in (8, 15, 17, 20, 40, 60, 70, 130, 300):
    with_fields(f"{size} KiB of headers", *[(f"x-{part}", "x" * 1000) for part in range(size)])
with_fields("200 headers", *[(f"x-{part}", "x") for part in range(200)])
with_fields("one header of 15 KiB", ("x-other", "x" * 15 * 1024))


@case("a header that breaks the compression")
async def _(exchange: Exchange, known: Known) -> None:
    exchange.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff\xff"))


@case("data on stream 0")
async def _(exchange: Exchange, known: Known) -> None:
    exchange.write(headers(known.fields()) + frame(0, 0, 0, b"x"))


@case("an even stream")
async def _(exchange: Exchange, known: Known) -> None:
    exchange.write(headers(known.fields(), stream=2) + data(known.message, stream=2, end=True))


@case("a frame that is too long")
async def _(exchange: Exchange, known: Known) -> None:
    exchange.write(headers(known.fields()) + frame(0, 0, 1, b"x" * 16_385))
