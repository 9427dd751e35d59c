"""The Connect protocol over HTTP/1.1: every RPC that needs a caller, by POST, as JSON or as bytes.

Mechanism: an ASGI application. Of a request, only the head is looked at before its caller is known. Then the
call asks for the message (`_Exchange.read`), within the bounds on messages that arrive over any port. Left
out are GET and streams: docs/http.md.

Bound: `MAX_MESSAGE_BYTES` of a message, before and after it is decompressed. Time and connections are
bounded by the server.

Failure: errors are those of gRPC, in the form of `connect_error`. A request that is refused by its head, or
calls an unknown RPC, is delayed like any other of an unknown caller.
"""

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import grpc
from google.rpc.status_pb2 import Status
from starlette.types import Receive, Scope, Send

from authsvc.model.errors import FieldViolation, InvalidArgument, TooLarge
from authsvc.rpc.lane import message as lane
from authsvc.rpc.lane.certificate import auth_context
from authsvc.rpc.limits import MAX_MESSAGE_BYTES
from authsvc.rpc.peer import address_of, peer_of
from authsvc.telemetry.current_call import REQUEST_ID
from authsvc.web import json_message
from authsvc.web.connect_error import error_answer
from authsvc.web.gzip_encoding import gzipped, takes_gzip
from authsvc.web.rpcs import Client, Method, Refusal, Rpcs, Trailers

_JSON, _PROTO = "application/json", "application/proto"
# All headers that a call is looked at for (`rpc.context.incoming_call`).
_OF_CALLS = frozenset({"authorization", "x-forwarded-for", "x-request-id", "traceparent", "tracestate"})
# Smaller answers are not compressed.
_MIN_GZIP_BYTES = 1024
# Answers with one of these are not compressed, so that their length says nothing of it.
_SECRETS = frozenset({"key_string", "session_token", "secret"})
_MAX_TIMEOUT_DIGITS = 10
_UNKNOWN = (
    "unknown RPC: call POST /authsvc.v1.KeyService/GetKey, for instance; streams, health and reflection are "
    "served over gRPC"
)


class _Head(NamedTuple):
    """What the headers of a request say, apart from who calls."""

    is_json: bool
    encoding: bytes
    takes_gzip: bool
    timeout: float | None


class _RefusedHeadError(Exception):
    """A request that is refused by its head."""

    def __init__(
        self, code: grpc.StatusCode, message: str, http_status: int = 0, *headers: tuple[str, str]
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.http_status, self.headers = code, message, http_status, headers


class Connect:
    """Serves the RPCs; an ASGI application."""

    def __init__(self, rpcs: Rpcs) -> None:
        self._rpcs = rpcs

    def serves(self, path: str) -> bool:
        """Return whether there is an RPC at a path."""
        return path in self._rpcs.methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        try:
            method, head = self._method(scope), _head(headers)
        except _RefusedHeadError as error:
            await self._rpcs.entrance.strangers.wait(address_of(peer(scope)))
            answer = error_answer(Status(code=error.code.value[0], message=error.message))
            status = error.http_status or answer.http_status
            await _send(send, status, [*answer.headers, *error.headers], _JSON, answer.body)
            return
        exchange = _Exchange(method, head, receive, send)
        await self._rpcs.call(method, client_of(scope, headers), exchange, head.timeout)

    def _method(self, scope: Scope) -> Method:
        method = self._rpcs.methods.get(scope["path"])
        if method is None:
            raise _RefusedHeadError(grpc.StatusCode.UNIMPLEMENTED, _UNKNOWN, 404)
        if scope["method"] != "POST":
            problem = "an RPC is called by POST"
            raise _RefusedHeadError(grpc.StatusCode.UNKNOWN, problem, 405, ("allow", "POST"))
        return method


class _Exchange:
    """A request and its answer; see `rpcs.Exchange`."""

    def __init__(self, method: Method, head: _Head, receive: Receive, send: Send) -> None:
        self._method, self._head = method, head
        self._receive, self._send = receive, send

    async def read(self) -> bytes:
        """Return the request; raise InvalidArgument or TooLarge."""
        data = _unpacked(await self._body(), self._head.encoding)
        if not self._head.is_json:
            return data
        request = await json_message.read(data, self._method.request_type)
        return request.SerializeToString()

    async def answer(self, message: bytes, trailers: Trailers) -> None:
        """Send the answer; return when the connection has taken it."""
        body, headers = message, _trailer_headers(trailers)
        if self._head.is_json:
            body = await json_message.write(self._method.answer_type.FromString(message))
        is_secret = not _SECRETS.isdisjoint(self._method.answer_type.DESCRIPTOR.fields_by_name)
        if not is_secret:
            headers.append(("vary", "accept-encoding"))
        if self._head.takes_gzip and len(body) >= _MIN_GZIP_BYTES and not is_secret:
            body = await gzipped(body)
            headers.append(("content-encoding", "gzip"))
        await _send(self._send, 200, headers, _JSON if self._head.is_json else _PROTO, body)

    async def refuse(self, refusal: Refusal, trailers: Trailers) -> None:
        """Send an error; return when the connection has taken it."""
        answer = error_answer(refusal.status)
        headers = [*answer.headers, *_trailer_headers(trailers)]
        await _send(self._send, answer.http_status, headers, _JSON, answer.body)

    async def _body(self) -> bytes:
        data = bytearray()
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise asyncio.CancelledError  # the client is gone, and so is the call
            data += event.get("body", b"")
            if len(data) > MAX_MESSAGE_BYTES:
                raise _too_large("the message has")
            if not event.get("more_body", False):
                return bytes(data)


def peer(scope: Scope) -> str:
    """Return the other end of the connection, in the form of gRPC; "" if it has no address."""
    host, port = scope.get("client") or ("", None)
    return peer_of(host, port) if host and port is not None else ""


def client_of(scope: Scope, headers: Sequence[tuple[str, str]]) -> Client:
    """Return who sends a request."""
    shown = scope.get("extensions", {}).get("tls", {}).get("authsvc.ssl_object")
    return Client(
        peer(scope),
        [(name, value) for name, value in headers if name in _OF_CALLS],
        {} if shown is None else auth_context(shown),
    )


def _head(headers: Sequence[tuple[str, str]]) -> _Head:
    """Return what the headers say; raise `_RefusedHeadError`."""
    found = _joined(headers)
    media_type, _, parameters = found.get("content-type", "").lower().partition(";")
    media_type, charset = media_type.strip(), parameters.replace(" ", "").replace('"', "")
    if media_type not in (_JSON, _PROTO) or charset not in ("", "charset=utf-8"):
        raise _RefusedHeadError(
            grpc.StatusCode.UNKNOWN,
            f"send it with content-type: {_JSON}, or {_PROTO}",
            415,
            ("accept-post", f"{_JSON}, {_PROTO}"),
        )
    if found.get("connect-protocol-version", "1") != "1":
        raise _RefusedHeadError(grpc.StatusCode.INVALID_ARGUMENT, "connect-protocol-version has to be 1")
    encoding = found.get("content-encoding", "").lower()
    if encoding not in ("", "identity", "gzip"):
        raise _RefusedHeadError(
            grpc.StatusCode.UNIMPLEMENTED,
            "the message is compressed in a format that is not known; use gzip",
            0,
            ("accept-encoding", "gzip"),
        )
    return _Head(
        media_type == _JSON,
        encoding.encode(),
        takes_gzip(found.get("accept-encoding", "")),
        _timeout(found.get("connect-timeout-ms")),
    )


def _joined(headers: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Return the headers by name; those that were sent several times make one list (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]}, {value}" if name in found else value.strip()
    return found


def _timeout(text: str | None) -> float | None:
    """Return the seconds until the deadline of a call, None if it has none."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_TIMEOUT_DIGITS):
        problem = f"connect-timeout-ms has to be a number of at most {_MAX_TIMEOUT_DIGITS} digits"
        raise _RefusedHeadError(grpc.StatusCode.INVALID_ARGUMENT, problem)
    return int(text) / 1000


def _unpacked(data: bytes, encoding: bytes) -> bytes:
    if encoding != b"gzip":
        return data
    try:
        return lane.decompressed(data, encoding)
    except lane.Refused as error:
        if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise _too_large("decompressed, the message has") from error
        raise InvalidArgument(FieldViolation("", "request.decodable", error.message)) from error


def _too_large(what: str) -> TooLarge:
    told = f"{what} more than the {MAX_MESSAGE_BYTES} bytes that are accepted"
    return TooLarge(told, reason="MESSAGE_TOO_LARGE")


def _trailer_headers(trailers: Trailers) -> list[tuple[str, str]]:
    """Return what gRPC sends after an answer; values in bytes are base64, as in gRPC."""
    return [
        (
            name if name == REQUEST_ID else f"trailer-{name}",
            value if isinstance(value, str) else b64encode(value).decode().rstrip("="),
        )
        for name, value in trailers
    ]


async def _send(
    send: Send, status: int, headers: Sequence[tuple[str, str]], media_type: str, body: bytes
) -> None:
    sent = [
        ("content-type", media_type),
        ("content-length", str(len(body))),
        # Answers may hold key strings, and what a caller sees is nobody else's business.
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        *headers,
    ]
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent],
        }
    )
    await send({"type": "http.response.body", "body": body})
