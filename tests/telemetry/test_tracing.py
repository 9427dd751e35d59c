"""Traces, as a collector receives them."""

import importlib
import logging
from collections.abc import AsyncIterator

import grpc
import httpx2
import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision
from opentelemetry.trace import SpanContext, TraceFlags

from authsvc.app import tracing
from authsvc.client import AuthClient
from authsvc.config.settings import ConfigError, load_settings
from authsvc.telemetry.sampler import MAX_PER_SECOND, BoundedSampler
from tests.conftest import Client, Service, serving
from tests.e2e.process import free_port
from tests.notifications.receiver import receiving
from tests.telemetry.collector import Collector, collecting

_TRACE, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_ASKED = f"00-{_TRACE}-{_PARENT}-01"
_KEYS = "authsvc.v1.KeyService"


@pytest_asyncio.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector, to which services of this test export."""
    async with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@pytest_asyncio.fixture
async def service(database_url: str, collector: Collector) -> AsyncIterator[Service]:
    """A service that traces, with a notifier, and traces verifications only if their callers ask for it."""
    async with serving(
        database_url,
        None,
        traces="on",
        notifies=True,
        webhook_networks="127.0.0.0/8",
        verification_sampling=0,
        web_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
    ) as running:
        yield running


def _asking(service: Service, parent: str = _ASKED, **headers: str) -> Client:
    """Return a client whose calls are in a trace."""
    return Client(service.channel, service.admin_key, traceparent=parent, **headers)


async def test_a_revocation_is_one_trace(service: Service, collector: Collector) -> None:
    """From the client's traceparent through the wait for the workers to the call of the webhook."""
    async with receiving() as receiver:
        created = await service.admin.CreateWebhook(
            owner_id="acme", url=f"http://127.0.0.1:{receiver.port}/", event_types=["key.revoked"]
        )
        made = await service.admin.CreateKey(owner_id="acme", display_name="a", scopes=["a:b"])
        await _asking(service).RevokeKey(key_id=made.key.key_id)
        await collector.until(lambda spans: any(span.name == "webhook" for span in spans))
    spans = collector.of(_TRACE)
    call, barrier, webhook = (spans[name] for name in (f"{_KEYS}/RevokeKey", "barrier", "webhook"))
    assert call.parent_id == _PARENT
    assert barrier.parent_id == webhook.parent_id == call.span_id
    assert call.attributes["rpc.system"] == "grpc"
    assert (call.attributes["rpc.service"], call.attributes["rpc.method"]) == (_KEYS, "RevokeKey")
    assert call.attributes["rpc.grpc.status_code"] == 0
    assert call.attributes["authsvc.owner_id"] == "authsvc"
    assert call.resource["service.name"] == "authsvc"
    assert barrier.attributes["authsvc.barrier.workers"] == 1
    assert 0 < barrier.seconds < call.seconds
    assert webhook.attributes["authsvc.webhook_id"] == created.webhook.webhook_id
    assert webhook.attributes["http.response.status_code"] == 204
    [request] = receiver.requests
    assert request.headers["traceparent"] == f"00-{_TRACE}-{webhook.span_id}-01"


async def test_a_verification_that_is_traced(service: Service, collector: Collector) -> None:
    """It shows what fills memory, and a known key has no such span. Others are not traced."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="a", scopes=["a:b"])
    # So that nothing is in memory.
    service.app.cache.clear()
    other = _TRACE.replace("4bf9", "4bf8")
    await service.admin.VerifyKey(key_string=service.admin_key)
    await _asking(service).VerifyKey(key_string=made.key_string)
    await _asking(service, _ASKED.replace(_TRACE, other)).VerifyKey(key_string=made.key_string)
    unsampled = _ASKED.replace(_TRACE, _TRACE.replace("4bf9", "4bf7")).removesuffix("1") + "0"
    await _asking(service, unsampled).VerifyKey(key_string=made.key_string)
    await collector.until(lambda _: f"{_KEYS}/VerifyKey" in collector.of(other))
    cold, warm = collector.of(_TRACE), collector.of(other)
    call = cold[f"{_KEYS}/VerifyKey"]
    assert call.attributes["authsvc.verdict"] == "VALID"
    assert cold["fill database"].parent_id == cold["fill proof"].parent_id == call.span_id
    assert list(warm) == [f"{_KEYS}/VerifyKey"]
    traced = {span.trace_id for span in collector.spans if span.name.endswith("/VerifyKey")}
    assert traced == {_TRACE, other}


async def test_errors_are_shown_by_their_codes(service: Service, collector: Collector) -> None:
    """An error of the caller is no failure of the service."""
    with pytest.raises(grpc.aio.AioRpcError):
        await _asking(service).GetKey(key_id="key_01jd3v5q8m0k2n4p6r8s0t2v4w")
    await collector.until(lambda _: f"{_KEYS}/GetKey" in collector.of(_TRACE))
    span = collector.of(_TRACE)[f"{_KEYS}/GetKey"]
    assert span.attributes["rpc.grpc.status_code"] == 5
    assert span.attributes["authsvc.reason"] == "KEY_NOT_FOUND"
    assert not span.failed


async def test_traces_arrive_over_http(service: Service, collector: Collector) -> None:
    """As an RPC by JSON, and as the check of a proxy."""
    headers = {"traceparent": _ASKED, "authorization": f"Bearer {service.admin_key}"}
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        listed = await client.post(
            f"http://127.0.0.1:{service.app.web_port}/{_KEYS}/ListKeys",
            json={"ownerId": "acme"},
            headers=headers,
        )
        assert listed.status_code == 200
        await client.get(
            f"http://127.0.0.1:{service.app.http_port}/check",
            headers={
                **headers,
                "x-authsvc-key": service.admin_key,
                "x-forwarded-method": "GET",
                "x-forwarded-uri": "/",
            },
        )
    names = {f"{_KEYS}/ListKeys", "check/HttpCheck"}
    await collector.until(lambda _: names <= collector.of(_TRACE).keys())
    listing, check = (collector.of(_TRACE)[name] for name in sorted(names))
    assert listing.attributes["rpc.system"] == "connect_rpc"
    assert check.attributes["http.response.status_code"] == 200
    assert listing.parent_id == check.parent_id == _PARENT


async def test_a_page_is_one_trace(service: Service, collector: Collector) -> None:
    """With the calls that it makes, all of which have the id of its request."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(
            f"http://127.0.0.1:{service.app.web_port}/introspect",
            data={"token": service.admin_key},
            headers={
                "traceparent": _ASKED,
                "x-request-id": "a page",
                "authorization": f"Bearer {service.admin_key}",
            },
        )
        assert answer.json()["active"]
    await collector.until(lambda _: "introspect/POST" in collector.of(_TRACE))
    spans = collector.of(_TRACE)
    page = spans["introspect/POST"]
    assert page.attributes["http.response.status_code"] == 200
    assert {span.parent_id for span in spans.values()} >= {_PARENT, page.span_id}
    ids = [span.attributes.get("authsvc.request_id") for span in spans.values()]
    assert {each for each in ids if each} == {"a page"}


async def test_the_client_continues_the_trace_of_the_application(
    service: Service, collector: Collector
) -> None:
    """If a span of OpenTelemetry is current."""
    context = SpanContext(int(_TRACE, 16), int(_PARENT, 16), is_remote=False, trace_flags=TraceFlags(1))
    async with AuthClient(service.address, key=service.admin_key, tls=None) as client:
        await client.verify_key(service.admin_key)
        with trace.use_span(trace.NonRecordingSpan(context)):
            await client.verify_key(service.admin_key)
    await collector.until(lambda _: f"{_KEYS}/VerifyKey" in collector.of(_TRACE))
    assert collector.of(_TRACE)[f"{_KEYS}/VerifyKey"].parent_id == _PARENT
    assert len([span for span in collector.spans if span.name.endswith("/VerifyKey")]) == 1


def test_a_flood_of_traces_is_bounded() -> None:
    """Further calls are not recorded in that second; spans inside of a recorded one always are."""
    now = 0.0
    sampler = BoundedSampler(ALWAYS_ON, lambda: now)

    def sampled(*, is_remote: bool) -> int:
        context = SpanContext(1, 2, is_remote=is_remote, trace_flags=TraceFlags(1))
        parent = trace.set_span_in_context(trace.NonRecordingSpan(context), Context())
        found = [sampler.should_sample(parent, 1, "a call") for _ in range(MAX_PER_SECOND + 50)]
        return sum(each.decision is Decision.RECORD_AND_SAMPLE for each in found)

    assert sampled(is_remote=True) == MAX_PER_SECOND
    assert sampled(is_remote=True) == 0
    assert sampled(is_remote=False) == MAX_PER_SECOND + 50
    now = 1.0
    assert sampled(is_remote=True) == MAX_PER_SECOND


async def test_no_secret_is_in_a_span(service: Service, collector: Collector) -> None:
    """Neither of what is sent and answered, nor of what callers put into headers."""
    admin = _asking(service, tracestate=f"vendor={service.admin_key}", x_request_id=service.admin_key)
    made = await admin.CreateKey(owner_id="acme", display_name="a", scopes=["a:b"])
    session = await admin.CreateSession(owner_id="alice")
    hook = await admin.CreateWebhook(owner_id="acme", url="https://hooks.example.org/in")
    service.app.cache.clear()
    await admin.VerifyKey(key_string=made.key_string)
    await admin.VerifySession(session_token=session.session_token)
    with pytest.raises(grpc.aio.AioRpcError):
        await _asking(service).UpdateKey(key={"key_id": made.key_string})
    await admin.RevokeKey(key_id=made.key.key_id)
    await collector.until(lambda _: f"{_KEYS}/RevokeKey" in collector.of(_TRACE))
    assert f"{_KEYS}/UpdateKey" in collector.of(_TRACE)
    for secret in (service.admin_key, made.key_string, session.session_token, hook.secret):
        public = len(secret) - 51 if secret.startswith("authsvc_") else 0
        assert secret[public:].encode() not in collector.data
    assert b"127.0.0.1" not in collector.data


async def test_a_collector_that_is_down(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls are answered, the log has one line, and a stop is bounded."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    caplog.set_level(logging.WARNING)
    async with serving(database_url, None, traces="on") as service:
        for _ in range(20):
            await service.admin.ListKeys(owner_id="acme")
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "opentelemetry" in line] == []
    assert len([line for line in lines if line.startswith("spans cannot be exported")]) <= 1
    assert all(line.startswith(("spans cannot be exported", "the last spans")) for line in lines)
    assert lines


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL: set it to one of grpc"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: authsvc exports by otlp"),
    ],
)
def test_variables_that_cannot_be_used(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable and the remedy."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=named):
        tracing.check_traces(load_settings(traces="on"))
    tracing.check_traces(load_settings())


@pytest.mark.parametrize(
    ("missing", "package"), [("authsvc.telemetry", "authsvc.otel"), ("opentelemetry", "otel")]
)
def test_a_missing_package_is_named(missing: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the SDK is missing, or the exporter."""
    found = importlib.import_module

    def import_module(name: str) -> object:
        if name.startswith(missing):
            raise ImportError(name)
        return found(name)

    monkeypatch.setattr(tracing, "import_module", import_module)
    with pytest.raises(ConfigError, match=f"pip install '.*{package}"):
        tracing.check_traces(load_settings(traces="on"))


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_the_variables_that_switch_it_off(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry has some of its own."""
    monkeypatch.setenv(name, value)
    assert tracing.tracing_of(load_settings(traces="on"), "worker 0") is None
