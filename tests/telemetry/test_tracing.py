"""Traces, as a collector receives them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conftest import Client, Service, serving
from tests.notifications.receiver import receiving
from tests.telemetry.collector import Collector, collecting

_TRACE, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_ASKED = f"00-{_TRACE}-{_PARENT}-01"


@pytest_asyncio.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector, to which services of this test export."""
    async with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@pytest_asyncio.fixture
async def service(database_url: str, collector: Collector) -> AsyncIterator[Service]:
    """A service that traces, with a notifier."""
    async with serving(
        database_url,
        None,
        traces="on",
        notifies=True,
        webhook_networks="127.0.0.0/8",
        verification_sampling=0,
    ) as running:
        yield running


def _asking(service: Service, key_string: str = "", **headers: str) -> Client:
    return Client(service.channel, key_string or service.admin_key, **{"traceparent": _ASKED, **headers})


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
    call, barrier, webhook = (
        spans[name] for name in ("authsvc.v1.KeyService/RevokeKey", "barrier", "webhook")
    )
    assert call.parent_id == _PARENT
    assert barrier.parent_id == webhook.parent_id == call.span_id
    assert call.attributes["rpc.system"] == "grpc"
    assert call.attributes["rpc.grpc.status_code"] == 0
    assert barrier.attributes["authsvc.barrier.workers"] == 1
    assert 0 < barrier.seconds < call.seconds
    assert webhook.attributes["authsvc.webhook_id"] == created.webhook.webhook_id
    [request] = receiver.requests
    assert request.headers["traceparent"] == f"00-{_TRACE}-{webhook.span_id}-01"
