"""Traces and lines about calls of `authsvc serve`, which exports from its forked processes."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from tests.conftest import WEBHOOK_KEY, Client
from tests.e2e.process import authsvc, eventually, running
from tests.notifications.receiver import receiving
from tests.telemetry.collector import collecting

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_ASKED = f"00-{_TRACE}-00f067aa0ba902b7-01"


async def test_workers_and_the_notifier_export(
    directory: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change and the call of its webhook are one trace, although two processes have made its spans."""
    key = authsvc("bootstrap", cwd=directory, database_url=database_url).stdout.strip()
    async with collecting() as collector, receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "keys")
        with running(
            "serve",
            directory,
            database_url=database_url,
            webhook_keys=WEBHOOK_KEY,
            webhook_networks="127.0.0.0/8",
            traces="on",
            access_log="all",
            scopes="a:b=Whatever",
            workers=2,
        ) as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                client = Client(channel, key, traceparent=_ASKED, x_request_id="the call")
                await client.CreateWebhook(owner_id="acme", url=f"http://127.0.0.1:{receiver.port}/")
                made = await client.CreateKey(owner_id="acme", display_name="a", scopes=["a:b"])
                await client.RevokeKey(key_id=made.key.key_id)
            await eventually(lambda: len(receiver.requests) == 2)
            # What is not exported yet is exported at the stop.
            assert await asyncio.to_thread(server.end) == 0
            lines = [json.loads(line) for line in server.stderr.splitlines()]
    spans = [span for span in collector.spans if span.trace_id == _TRACE]
    revocation = next(span for span in spans if span.name.endswith("/RevokeKey"))
    webhooks = [span for span in spans if span.name == "webhook"]
    assert revocation.span_id in {span.parent_id for span in webhooks}
    assert {span.resource["service.name"] for span in spans} == {"keys"}
    assert revocation.resource["authsvc.process"] in ("worker 0", "worker 1")
    assert {span.resource["authsvc.process"] for span in webhooks} == {"notifier"}
    assert {request.headers["traceparent"].split("-")[1] for request in receiver.requests} == {_TRACE}
    [started] = [line for line in lines if line["event"].startswith("serving at")]
    assert (started["workers"], started["level"]) == (2, "info")
    assert started["settings"]["AUTHSVC_TRACES"] == "on"
    assert started["settings"]["AUTHSVC_WEBHOOK_KEYS"] == "(set)"
    calls = [line for line in lines if line["event"] == "call"]
    assert [line["method"].rpartition("/")[2] for line in calls] == [
        "CreateWebhook",
        "CreateKey",
        "RevokeKey",
    ]
    assert {(line["request_id"], line["trace_id"]) for line in calls} == {("the call", _TRACE)}
    assert not [line for line in lines if line["level"] in ("warning", "error")]
    assert WEBHOOK_KEY not in server.stderr
    assert key not in server.stderr


def test_a_variable_that_cannot_be_used(
    directory: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What OpenTelemetry's variables say is checked before anything starts, and named."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    told = authsvc("serve", cwd=directory, database_url=database_url, traces="on")
    assert told.code == 1
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: set it to one of grpc, http/protobuf" in told.stderr
