"""The guards of `authsvc.client` for one call: a server of gRPC, or an application of ASGI."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Envelope
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from authsvc.client import AuthClient, Authenticated, AuthenticatedAsgi, CredentialType, Identity, current

_METHOD = "test.Target/Call"
_DEADLINE_SECONDS = 60


async def problems(
    kind: str, client: AuthClient, call: Mapping[str, Any], expected: Mapping[str, Any]
) -> list[str]:
    """Send the headers of a call to a guarded handler; return what is wrong with the answer."""
    seen: list[Identity | None] = []
    answer = await (_by_grpc if kind == "grpc" else _by_http)(client, call, seen)
    if not expected["admitted"]:
        found = {"handled": len(seen), **answer}
        wanted = {"handled": 0, **expected[kind]}
        return [
            f"{name} is {found.get(name)!r} instead of {value!r}"
            for name, value in wanted.items()
            if found.get(name) != value
        ]
    if len(seen) != 1:
        return [f"the handler ran {len(seen)} times; the answer was {answer}"]
    caller = seen[0]
    shown: dict[str, Any] = {"credential_id": None}
    if caller is not None:
        shown = {
            "credential_id": caller.credential_id,
            "owner_id": caller.owner_id,
            "type": caller.type.name,
        }
    wanted = {name: value for name, value in expected.items() if name != "admitted"}
    return [] if shown == wanted else [f"the caller is {shown} instead of {wanted}"]


def _options(call: Mapping[str, Any], name: str, other: str) -> dict[str, Any]:
    """Return the options of a guard for the method `name`; `other` is one that does not matter."""
    scopes = call.get("required_scopes", [])
    options: dict[str, Any] = {"scopes": {name if call.get("listed", True) else other: scopes}}
    if call.get("public"):
        options = {"scopes": {other: scopes}, "public": [name]}
    if "accept" in call:
        options["accept"] = [CredentialType[kind] for kind in call["accept"]]
    return options


def _caller() -> Identity | None:
    try:
        return current()
    except LookupError:
        return None


async def _by_grpc(
    client: AuthClient, call: Mapping[str, Any], seen: list[Identity | None]
) -> dict[str, Any]:
    async def handle(request: bytes, context: Any) -> bytes:
        seen.append(_caller())
        return request

    guard = Authenticated(client, **_options(call, _METHOD, "test.Other/*"))
    server = grpc.aio.server(interceptors=[guard])
    service, method = _METHOD.split("/")
    handlers: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask: Any = channel.unary_unary(f"/{_METHOD}")
            headers = [(name, value) for name, value in call["headers"]]
            await ask(b"x", metadata=headers, timeout=_DEADLINE_SECONDS)
    except grpc.aio.AioRpcError as error:
        return _status(error)
    finally:
        await server.stop(None)
    return {"code": "OK"}


def _status(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    shown: dict[str, Any] = {"code": error.code().name, "retry_seconds": None}
    for name, value in error.trailing_metadata() or ():
        if name != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        for detail in Status.FromString(value).details:
            shown.update(_detail(detail))
    return shown


def _detail(detail: Envelope) -> dict[str, Any]:
    info, retry = ErrorInfo(), RetryInfo()
    if detail.Unpack(info) and info.domain == "authsvc":
        return {"reason": info.reason, "required_scope": info.metadata.get("required_scope")}
    if detail.Unpack(retry):
        return {"retry_seconds": retry.retry_delay.ToMilliseconds() / 1000}
    return {}


async def _by_http(
    client: AuthClient, call: Mapping[str, Any], seen: list[Identity | None]
) -> dict[str, Any]:
    sent: list[Any] = []

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        seen.append(_caller())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    app = AuthenticatedAsgi(handle, client, **_options(call, "GET /orders", "/others/**"))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/orders",
        "raw_path": b"/orders",
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in call["headers"]],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return _response(sent)


def _response(messages: Iterable[Any]) -> dict[str, Any]:
    [start] = [message for message in messages if message["type"] == "http.response.start"]
    body = b"".join(message.get("body", b"") for message in messages)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', headers.get("www-authenticate", "")))
    return {
        "status": start["status"],
        "reason": json.loads(body)["reason"] if body else None,
        "retry_after": headers.get("retry-after"),
        "error": challenge.get("error", ""),
        "scope": challenge.get("scope", ""),
        "ratelimit": headers.get("ratelimit"),
    }
