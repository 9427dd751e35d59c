"""What gRPC and gRPC-Web clients get through the real Envoy: a status like one of authsvc itself."""

import asyncio
import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.conftest import Clock, Service, both_transports, serving
from tests.gateway.client import Headers, get_http1
from tests.gateway.conftest import Behind, bearer, key, new_directory, protected
from tests.gateway.proxies import uncommented
from tests.gateway.upstream import serving_grpc
from tests.rpc.refusal import refused

_METHOD = "/grpc.health.v1.Health/Check"
# How an operator enables gRPC for the application.
_HTTP2 = "typed_extension_protocol_options:"
_UNKNOWN = "authsvc_live_" + "0" * 63
_MISSING = "Send your key, for instance as authorization: Bearer <key string>."
_INVALID = "The credential is not known; check that it was copied completely."
_SCOPE = "This request requires the scope orders:write; use a credential that has it."


pytest_generate_tests = both_transports


@pytest.fixture(autouse=True)
def over_each(transport: str) -> None:
    """Run all tests of this file over each transport."""


@dataclass
class World:
    """Envoy in front of an application that serves gRPC, a key that may call it, and one that may not."""

    behind: Behind
    address: str
    good: str
    other: str


@asynccontextmanager
async def _before_grpc(
    service: Service, checkout: Path, directory: Path, *filters: str
) -> AsyncIterator[World]:
    async with serving_grpc() as (port, _):

        def change(text: str) -> str:
            text = reduce(uncommented, [_HTTP2, *filters], text)
            text = text.replace(
                "path_separated_prefix: /orders", "path_separated_prefix: /grpc.health.v1.Health"
            )
            text, count = re.subn(r"(cluster_name: app\n(?:.*\n){4}.*port_value: )\d+", rf"\g<1>{port}", text)
            assert count == 1
            return text

        async with protected(service, "envoy", checkout, directory, change=change) as behind:
            good, _ = await key(service, "orders:write")
            other, _ = await key(service, "orders:read")
            yield World(behind, f"127.0.0.1:{behind.proxy.port}", good, other)


@pytest.fixture
async def world(database_url: str, clock: Clock, checkout: Path, reachable_dir: Path) -> AsyncIterator[World]:
    async with (
        serving(database_url, clock) as service,
        _before_grpc(service, checkout, new_directory(reachable_dir)) as made,
    ):
        yield made


def _end_the_lease(service: Service, patch: pytest.MonkeyPatch) -> None:
    """Make every check from now on unable to decide."""
    access, lease = service.app.access, service.app.lease

    def after_the_lease(decide: Callable[..., Any]) -> Callable[..., Any]:
        def decides(*arguments: object) -> Any:
            lease.end("this is a test")
            return decide(*arguments)

        return decides

    for name in ("decide", "recall"):
        patch.setattr(access, name, after_the_lease(getattr(access, name)))


async def test_a_client_of_grpc(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the code, a sentence and ErrorInfo, and RetryInfo if it should retry."""
    async with grpc.aio.insecure_channel(world.address) as channel:
        stub: Any = HealthStub(channel)

        async def call(text: str = "") -> object:
            metadata = [("authorization", f"Bearer {text}")] if text else []
            return await stub.Check(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=30)

        assert await call(world.good) == health_pb2.HealthCheckResponse(status=1)
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING") as refusal:
            await call()
        assert refusal.message == _MISSING
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID") as refusal:
            await call(_UNKNOWN)
        assert refusal.message == _INVALID
        with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING") as refusal:
            await call(world.other)
        assert (refusal.message, dict(refusal.info.metadata)) == (_SCOPE, {"required_scope": "orders:write"})
        assert refusal.retry_seconds is None
        _end_the_lease(world.behind.service, monkeypatch)
        with refused(grpc.StatusCode.UNAVAILABLE, "LEASE_OVER") as refusal:
            await call(world.good)
        assert refusal.retry_seconds is not None


async def test_an_envoy_that_may_not_ask(world: World) -> None:
    """A gRPC client gets UNAVAILABLE, and is not told that its credential is invalid."""
    await world.behind.service.admin.BatchRevokeKeys(owner_id="authsvc", allow_last_administrator=True)
    async with grpc.aio.insecure_channel(world.address) as channel:
        stub: Any = HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_does_not_rename_the_device(world: World) -> None:
    """The user agent of a gRPC library is the same on every device; the address is the caller's."""
    service = world.behind.service
    opened = await service.admin.CreateSession(
        owner_id="alice", scopes=["orders:write"], user_agent="Orders/2.1", ip_address="192.0.2.77"
    )
    service.clock.advance(seconds=1)
    # gRPC adds the user agent `grpc-python-asyncio/…`, alone or after the one of the application.
    for options in ([], [("grpc.primary_user_agent", "Other/1.0")]):
        async with grpc.aio.insecure_channel(world.address, options=options) as channel:
            stub: Any = HealthStub(channel)
            metadata = [("authorization", f"Bearer {opened.session_token}")]
            await stub.Check(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=30)
        await service.flush()
        session = await service.admin.GetSession(session_id=opened.session.session_id)
        assert (session.device.user_agent, session.ip_address) == ("Orders/2.1", "127.0.0.1")
        service.clock.advance(seconds=1)


@pytest.fixture
def protoset(tmp_path: Path) -> Path:
    """Describes the method for clients without generated code."""
    described = FileDescriptorSet()
    needed = (any_pb2, health_pb2, duration_pb2, error_details_pb2)
    for file in needed:
        file.DESCRIPTOR.CopyToProto(described.file.add())
    path = tmp_path / "health.binpb"
    path.write_bytes(described.SerializeToString())
    return path


async def _run(*command: object) -> str:
    """Return the output of a program."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return output.decode()


async def test_grpcurl(world: World, grpcurl: Path, protoset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the same status."""

    async def call(text: str = "") -> str:
        shown = ("-H", f"authorization: Bearer {text}") if text else ()
        return await _run(grpcurl, "-plaintext", "-protoset", protoset, *shown, world.address, _METHOD[1:])

    assert "SERVING" in await call(world.good)
    shown = await call()
    assert f"Code: Unauthenticated\n  Message: {_MISSING}\n" in shown
    assert '"reason": "CREDENTIAL_MISSING"' in shown
    shown = await call(world.other)
    assert f"Code: PermissionDenied\n  Message: {_SCOPE}\n" in shown
    assert '"reason": "SCOPE_MISSING"' in shown
    _end_the_lease(world.behind.service, monkeypatch)
    shown = await call(world.good)
    assert "Code: Unavailable\n" in shown
    assert '"reason": "LEASE_OVER"' in shown


@pytest.mark.parametrize(
    ("protocol", "filters"),
    [("grpc", []), ("grpcweb", []), ("grpcweb", ["- name: envoy.filters.http.grpc_web"])],
    ids=["grpc", "grpcweb", "grpcweb translated"],
)
async def test_a_client_of_go(
    protocol: str,
    filters: list[str],
    buf: Path,
    protoset: Path,
    database_url: str,
    clock: Clock,
    checkout: Path,
    reachable_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`buf curl` shows it over gRPC, and over gRPC-Web if Envoy translates; otherwise only the code."""
    async with (
        serving(database_url, clock) as service,
        _before_grpc(service, checkout, new_directory(reachable_dir), *filters) as world,
    ):

        async def call(text: str = "") -> Any:
            shown = ("-H", f"authorization: Bearer {text}") if text else ()
            options = ("--protocol", protocol, "--schema", protoset, "--reflect=false", *shown)
            return json.loads(await _run(buf, "curl", *options, f"http://{world.address}{_METHOD}"))

        # Without its filter, Envoy removes the content type: this client then uses only the status.
        is_whole = protocol == "grpc" or filters
        if is_whole:
            assert await call(world.good) == {"status": "SERVING"}
        for text, code, message, reason in (
            ("", "unauthenticated", _MISSING, "CREDENTIAL_MISSING"),
            (_UNKNOWN, "unauthenticated", _INVALID, "CREDENTIAL_INVALID"),
            (world.other, "permission_denied", _SCOPE, "SCOPE_MISSING"),
        ):
            error = await call(text)
            assert error["code"] == code
            if is_whole:
                assert (error["message"], _reasons(error)) == (message, [reason])
        _end_the_lease(service, monkeypatch)
        error = await call(world.good)
        assert error["code"] == "unavailable"
        if is_whole:
            assert _reasons(error) == ["LEASE_OVER"]
            assert "google.rpc.RetryInfo" in {detail["type"] for detail in error["details"]}


def _reasons(error: Any) -> list[str]:
    """Return the reasons in the details of an error, as written by `buf curl`."""
    details = [d for d in error["details"] if d["type"] == "google.rpc.ErrorInfo"]
    return [ErrorInfo.FromString(b64decode(d["value"] + "==")).reason for d in details]


def _read(headers: dict[str, str]) -> tuple[int, str, str, bool]:
    """Return the code, the message, the reason and whether there is a time to retry after."""
    details = headers["grpc-status-details-bin"]
    status = Status.FromString(b64decode(details + "=" * (-len(details) % 4)))
    message = unquote(headers["grpc-message"])
    assert (status.code, status.message) == (int(headers["grpc-status"]), message)
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return status.code, message, info.reason, any(d.Is(RetryInfo.DESCRIPTOR) for d in status.details)


@pytest.mark.parametrize("translates", [False, True])
async def test_a_client_of_grpc_web(
    translates: bool,
    database_url: str,
    clock: Clock,
    checkout: Path,
    reachable_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The status is in the headers, whether the application supports gRPC-Web or Envoy translates."""
    filters = ["- name: envoy.filters.http.grpc_web"] if translates else []
    async with (
        serving(database_url, clock) as service,
        _before_grpc(service, checkout, new_directory(reachable_dir), *filters) as world,
    ):

        async def call(media_type: str, credential: Headers = ()) -> tuple[int, int, str, str, bool]:
            body = b"AAAAAAA=" if "text" in media_type else b"\0\0\0\0\0"
            kind = [("content-type", media_type), ("accept", media_type)]
            sent = [*kind, ("content-length", str(len(body))), *credential]
            answer = await get_http1(world.behind.proxy.port, _METHOD, sent, "POST", body)
            assert answer.body == b""
            if translates:
                assert answer.headers["content-type"] == f"{media_type.removesuffix('+proto')}+proto"
            return answer.status, *_read(answer.headers)

        def status(code: int) -> int:
            # Without a content type, clients use this.
            return 200 if translates else code

        for kind in ("application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"):
            missing = (status(401), 16, _MISSING, "CREDENTIAL_MISSING", False)
            assert await call(kind) == missing
            forbidden = (status(403), 7, _SCOPE, "SCOPE_MISSING", False)
            assert await call(kind, bearer(world.other)) == forbidden
        _end_the_lease(service, monkeypatch)
        shown, code, _, reason, again = await call("application/grpc-web+proto", bearer(world.good))
        assert (shown, code, reason, again) == (status(503), 14, "LEASE_OVER", True)


@pytest.mark.parametrize("content_type", ["application/grpcx", "application/json", "text/application/grpc"])
async def test_all_others_get_a_problem(world: World, content_type: str) -> None:
    """Requests that are not gRPC get an HTTP status."""
    sent = [("content-type", content_type), ("content-length", "2")]
    answer = await get_http1(world.behind.proxy.port, _METHOD, sent, "POST", b"{}")
    assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
    assert "grpc-status" not in answer.headers
