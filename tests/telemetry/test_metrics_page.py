"""The metrics page, with hostile clients."""

import asyncio
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, Counter

from authsvc.net.http_server import Call
from authsvc.net.listen_address import ListenAddress
from authsvc.telemetry.metrics_page import MAX_CONNECTIONS, Pages, serve_metrics
from tests.e2e.process import free_port


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc(3)
    return registry


@pytest.fixture
def port(registry: CollectorRegistry) -> Iterator[int]:
    port = free_port()
    stop = serve_metrics(ListenAddress("127.0.0.1", port), 0, registry)
    yield port
    stop()


def _scraped(port: int, accept: str = "*/*") -> tuple[str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as page:  # noqa: S310
        return page.headers["content-type"], page.read().decode()


def test_both_formats(port: int) -> None:
    """The format of Prometheus, and OpenMetrics if it is requested."""
    kind, page = _scraped(port)
    assert kind.startswith("text/plain")
    assert "things_total 3.0" in page
    kind, page = _scraped(port, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert page.endswith("# EOF\n")


def test_connections_take_no_threads_and_are_bounded(port: int) -> None:
    """Any number of clients is served by one thread; a new one replaces the one that waits longest."""
    threads = threading.active_count()
    silent, *others = [
        socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(MAX_CONNECTIONS)
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=10):
        assert silent.recv(1) == b""
        silent.close()
        assert threading.active_count() == threads
        for other in others:
            other.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert other.recv(12) == b"HTTP/1.1 200"
            other.close()


def test_silent_connections_stop_no_scrape(port: int) -> None:
    """However many there are, and while they begin requests that they do not end."""
    others = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2 * MAX_CONNECTIONS)]
    for _ in range(2):
        assert "things_total 3.0" in _scraped(port)[1]
        for other in others:
            with suppress(OSError):  # it was closed
                other.send(b"GET / HTTP/1.1\r\n")
    for other in others:
        other.close()


async def test_pages_take_a_tenth_of_the_time(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeated requests wait nine times as long as the page took to generate."""
    now, waited = 0.0, []

    def read() -> float:
        nonlocal now
        now += 0.5
        return now

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pages = Pages(registry, read)
    for _ in range(3):
        assert (await pages.answer(Call("GET", "/metrics", []))).status == 200
    # It takes half a second by this clock, and another half has passed when the next request arrives.
    assert waited == [4.0, 4.0]
