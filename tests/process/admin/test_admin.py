"""The admin listener and its workers in one process: what it answers, to whom, and what it costs."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import GaugeMetricFamily

from authsvc.app.background import in_background
from authsvc.net.listen_address import ListenAddress
from authsvc.net.private_listener import PrivateListener
from authsvc.process.admin import pages
from authsvc.process.admin.answers import FOLLOWER, NOTIFIER, Answers
from authsvc.process.admin.listener import MAX_CONNECTIONS, listening
from tests.e2e.process import eventually, free_port

_NOT_SERVING = "it does not serve: it is starting, or has ended; see the log"


class Replica:
    """A running admin listener, and workers that a test starts and ends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.listener = PrivateListener()

    @asynccontextmanager
    async def worker(
        self, slot: int | str, reason: Callable[[], str] = lambda: "", count: float = 0
    ) -> AsyncIterator[CollectorRegistry]:
        """Run the side of a worker, or of the notifier, while the block runs."""
        registry = CollectorRegistry()
        Counter("things", "Things.", registry=registry).inc(count)
        async with in_background(Answers(str(slot), reason, registry).run(self.listener)):
            yield registry

    async def get(self, path: str, method: str = "GET", headers: str = "") -> tuple[int, str]:
        """Return the status and the body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        finally:
            writer.close()
        assert "connection: close" in head, head
        return int(head.split()[1]), body

    async def tells(self, line: str, path: str = "/readyz") -> None:
        """Wait until a page has this line."""
        deadline = time.monotonic() + 30
        while line not in (body := (await self.get(path))[1]).splitlines():
            assert time.monotonic() < deadline, f"no {line!r} in:\n{body}"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def replica(slots: int = 2) -> AsyncIterator[Replica]:
    running = Replica(free_port())
    async with listening(
        ListenAddress("127.0.0.1", running.port), running.listener, slots, lambda word, text: None
    ):

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", running.port)) == 0

        await eventually(listens)
        yield running
    running.listener.close()


async def test_one_ready_worker_makes_the_replica_ready() -> None:
    """The page says of each worker whether it is ready, and why not."""
    problem = "its lease is over"
    async with replica() as on:
        assert await on.get("/readyz") == (
            503,
            "".join(f"worker {slot}: not ready: {_NOT_SERVING}\n" for slot in (0, 1)),
        )
        async with on.worker(0, lambda: problem):
            await on.tells("worker 0: not ready: its lease is over")
            assert (await on.get("/readyz"))[0] == 503
            async with on.worker(1):
                await on.tells("worker 1: ready")
                assert await on.get("/readyz") == (
                    200,
                    "worker 0: not ready: its lease is over\nworker 1: ready\n",
                )
                problem = ""
                assert await on.get("/readyz") == (200, "worker 0: ready\nworker 1: ready\n")
            await on.tells(f"worker 1: not ready: {_NOT_SERVING}")


async def test_it_answers_nothing_else() -> None:
    """No check of proxies, and no other method. It lives as long as the supervisor, whatever workers do."""
    async with replica() as on:
        assert await on.get("/healthz") == (200, "the supervisor runs\n")
        assert await on.get("/healthz", "HEAD") == (200, "")
        for path in ("/check", "/", "/metrics/x"):
            assert (await on.get(path))[0] == 404
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await on.get(path, "DELETE"))[0] == 405


async def test_a_request_with_a_body(caplog: pytest.LogCaptureFixture) -> None:
    """It is refused in words that fit a probe as well as a proxy."""
    async with replica() as on:
        status, body = await on.get("/readyz", headers="content-length: 1\r\n")
    told = "has a body; send none, and configure a proxy not to send Content-Length and Transfer-Encoding"
    assert (status, body) == (413, f"the request {told}\n")
    assert f"refused an HTTP request, since it {told}" in caplog.text


async def test_metrics_of_all_workers_by_slot() -> None:
    """A worker that is not there is not up, and has no other samples."""
    async with replica(3) as on, on.worker(0, count=5), on.worker(2, lambda: "it stops", count=7):
        for name in (NOTIFIER, FOLLOWER):
            async with on.worker(name, count=9):
                await on.tells(f'authsvc_up{{worker="{name}"}} 1.0', "/metrics")
                page = (await on.get("/metrics"))[1]
            assert f'things_total{{worker="{name}"}} 9.0' in page
            assert name not in (await on.get("/readyz"))[1]
        await on.tells('authsvc_up{worker="2"} 1.0', "/metrics")
        await on.tells('authsvc_up{worker="0"} 1.0', "/metrics")
        lines = [line for line in (await on.get("/metrics"))[1].splitlines() if not line.startswith("#")]
        assert [line for line in lines if "created" not in line] == [
            'authsvc_up{worker="0"} 1.0',
            'authsvc_up{worker="1"} 0.0',
            'authsvc_up{worker="2"} 1.0',
            'authsvc_up{worker="notifier"} 0.0',
            'authsvc_up{worker="follower"} 0.0',
            'authsvc_ready{worker="0"} 1.0',
            'authsvc_ready{worker="1"} 0.0',
            'authsvc_ready{worker="2"} 0.0',
            'things_total{worker="0"} 5.0',
            'things_total{worker="2"} 7.0',
        ]


async def test_of_two_workers_in_one_slot_the_newer_one_counts() -> None:
    """As while the old one drains. When the newer one ends, the old one counts again."""
    async with replica(1) as on, on.worker(0, lambda: "it drains", count=5):
        await on.tells('things_total{worker="0"} 5.0', "/metrics")
        async with on.worker(0, count=1):
            await on.tells('things_total{worker="0"} 1.0', "/metrics")
            page = (await on.get("/metrics"))[1]
            assert page.count("things_total{") == page.count("authsvc_ready{") == 1
            assert await on.get("/readyz") == (200, "worker 0: ready\n")
        await on.tells("worker 0: not ready: it drains")


@asynccontextmanager
async def silent_worker(listener: PrivateListener, slot: int) -> AsyncIterator[asyncio.StreamReader]:
    """Connect like a worker, and answer nothing."""
    reader, writer = await asyncio.open_unix_connection(sock=listener.connect())
    writer.write(b'{"name": "%d", "since": 1e9}\n' % slot)
    yield reader
    writer.close()


async def test_only_the_first_request_waits_for_a_worker_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are answered at once, with the other workers, and the worker is asked once."""
    monkeypatch.setattr(pages, "_READINESS_SECONDS", 0.3)
    monkeypatch.setattr(pages, "_METRICS_SECONDS", 0.3)
    async with replica() as on, on.worker(0, count=5), silent_worker(on.listener, 1) as asked:
        await on.tells("worker 0: ready")
        await on.tells("worker 1: not ready: it does not answer within 0.3 s")
        # Would take longer than this test may.
        monkeypatch.setattr(pages, "_READINESS_SECONDS", 0.31)
        for _ in range(500):
            assert (await on.get("/readyz"))[0] == 200
        for _ in range(3):
            page = (await on.get("/metrics"))[1]
            assert 'authsvc_up{worker="1"} 0.0' in page
            assert 'things_total{worker="0"} 5.0' in page
        assert await asked.read(999) == b"readiness\nmetrics\n"


async def test_a_worker_whose_metrics_fail_is_not_up(caplog: pytest.LogCaptureFixture) -> None:
    """The fault is logged, the others have their samples, and it is up again without the fault."""
    async with replica() as on, on.worker(0, count=5), on.worker(1) as registry:
        await on.tells('authsvc_up{worker="1"} 1.0', "/metrics")

        class Broken:
            def collect(self) -> None:
                raise ValueError("hunter2")

        broken: Any = Broken()
        registry.register(broken)
        await on.tells('authsvc_up{worker="1"} 0.0', "/metrics")
        assert 'things_total{worker="0"} 5.0' in (await on.get("/metrics"))[1]
        assert "unexpected error in the metrics" in caplog.text
        await on.tells("worker 1: ready")
        registry.unregister(broken)
        await on.tells('authsvc_up{worker="1"} 1.0', "/metrics")


async def test_idle_connections_keep_nobody_out() -> None:
    """Beyond the maximum, the oldest connection without a request is closed for a new one."""
    async with replica() as on, on.worker(0), AsyncExitStack() as stack:
        await on.tells("worker 0: ready")
        idle = []
        for _ in range(MAX_CONNECTIONS + 3):
            reader, writer = await asyncio.open_connection("127.0.0.1", on.port)
            stack.callback(writer.close)
            writer.write(b"GET /readyz HTTP/1.1\r\n")
            idle.append(reader)
        assert (await on.get("/readyz"))[0] == 200
        closed = [await reader.read(1) for reader in idle[:4]]
        assert closed == [b""] * 4
        assert not any(reader.at_eof() for reader in idle[-MAX_CONNECTIONS + 2 :])


async def test_too_many_scrapes_are_refused_and_probes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrapes that wait have a part of the connections only."""
    monkeypatch.setattr(pages, "_METRICS_SECONDS", 60.0)
    async with replica(1) as on:
        async with silent_worker(on.listener, 0) as asked:
            await on.tells("worker 0: not ready: it does not answer within 0.5 s")
            scrapes = [asyncio.ensure_future(on.get("/metrics")) for _ in range(pages._MAX_SCRAPES + 1)]
            refused, waiting = await asyncio.wait(scrapes, return_when=asyncio.FIRST_COMPLETED)
            assert [scrape.result()[0] for scrape in refused] == [503]
            assert (await on.get("/healthz"))[0] == 200
            assert await asked.read(999) == b"readiness\nmetrics\n"
        # The worker has ended, so nobody waits for it.
        assert {status for status, _ in await asyncio.gather(*waiting)} == {200}


async def test_calls_are_served_between_two_families() -> None:
    """A worker reads its metrics one family after another, and does something else in between."""
    served: list[str] = []

    class Slow:
        def __init__(self, name: str) -> None:
            self._name = name

        def collect(self) -> list[Metric]:
            asyncio.get_running_loop().call_soon(served.append, f"a call after {self._name}")
            served.append(self._name)
            return [GaugeMetricFamily(self._name, "A level.", value=1)]

    async with replica(1) as on, on.worker(0, count=5) as registry:
        await on.tells('authsvc_up{worker="0"} 1.0', "/metrics")
        for name in ("one", "two"):
            slow: Any = Slow(name)
            registry.register(slow)
        served.clear()  # Registering reads the names.
        await on.get("/metrics")
        assert served[:4] == ["one", "a call after one", "two", "a call after two"]


async def test_metrics_take_a_tenth_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker waits before it gives them again, and answers meanwhile whether it is ready."""
    cpu = 0.0

    def spent() -> float:
        nonlocal cpu
        cpu += 100.0
        return cpu

    monkeypatch.setattr("authsvc.process.admin.answers.time.thread_time", spent)
    monkeypatch.setattr(pages, "_METRICS_SECONDS", 0.3)
    async with replica(1) as on, on.worker(0, count=5):
        await on.tells('things_total{worker="0"} 5.0', "/metrics")
        await on.tells('authsvc_up{worker="0"} 0.0', "/metrics")
        assert await on.get("/readyz") == (200, "worker 0: ready\n")


async def test_an_address_that_is_taken_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, as an error that names the setting; another service at the port is not joined."""
    caplog.set_level("INFO")
    monkeypatch.setattr("authsvc.process.admin.listener._RETRY_SECONDS", 0.01)
    other = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    address = ListenAddress("127.0.0.1", other.getsockname()[1])
    listener = PrivateListener()
    async with listening(address, listener, 1, lambda word, text: None):
        await eventually(lambda: f"AUTHSVC_ADMIN_LISTEN: cannot listen at {address}: " in caplog.text)
        other.close()
        await eventually(lambda: f"probes and metrics at {address}" in caplog.text)
        assert caplog.text.count("cannot listen") == 1
        assert f"cannot listen at {address}: Address already in use; calls are served" in caplog.text
    listener.close()
