"""The page of metrics of several workers, and what making it costs."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from authsvc.net.http_message import Call
from authsvc.telemetry import Metrics
from authsvc.telemetry.families import Merged, described
from authsvc.telemetry.metrics_page import MetricsPage

parsed: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def registry_of(number: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("things", 'Things.\nWith \\ and ".', ["kind"], registry=registry).labels('a "b"\\\n').inc(number)
    Gauge("level", "A level.", registry=registry).set(-number)
    Histogram("seconds", "Seconds.", ["method"], buckets=(0.1, 1), registry=registry).labels("M").observe(0.5)
    return registry


def merged(*numbers: int) -> Merged:
    """The families of some workers, as they travel between processes."""
    told = {str(number): json.loads(json.dumps(list(described(registry_of(number))))) for number in numbers}
    return Merged([GaugeMetricFamily("up", "Up.", value=1)], told)


async def page(families: Collector, accept: str = "*/*") -> str:
    reply = await MetricsPage().answer(Call("GET", "/metrics", [("accept", accept)]), families)
    assert reply.status == 200
    assert dict(reply.headers)["Content-Type"].startswith(
        accept.partition(";")[0].replace("*/*", "text/plain")
    )
    return reply.body


async def test_the_samples_of_all_workers_are_below_one_family() -> None:
    """Each family has one HELP and one TYPE, and each worker keeps its own values."""
    text = await page(merged(1, 2, 10))
    lines = [line.split()[:3] for line in text.splitlines() if line.startswith("#")]
    assert len(lines) == len({tuple(line) for line in lines})
    families = {family.name: family for family in parsed(text)}
    values = {(sample.name, sample.labels["worker"]): sample.value for sample in families["things"].samples}
    assert values == {("things_total", "1"): 1, ("things_total", "2"): 2, ("things_total", "10"): 10}
    assert {sample.labels["kind"] for sample in families["things"].samples} == {'a "b"\\\n'}
    assert [sample.value for sample in families["level"].samples] == [-1, -2, -10]
    assert [sample.labels for sample in families["up"].samples] == [{}]


async def test_openmetrics_when_it_is_requested() -> None:
    """Its parser is strict: names, order, grouping, and the end."""
    text = await page(merged(1, 2), OPENMETRICS)
    assert text.endswith("# EOF\n")
    families: list[Metric] = list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert [family.name for family in families] == ["up", "things", "level", "seconds"]


def test_promtool_accepts_the_metrics_of_the_service() -> None:
    """Prometheus's own checker has no complaint about names, help texts and types."""
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool: Debian package prometheus")
    metrics = Metrics()
    metrics.calls_of("VerifyKey", is_verification=True)(0.001)
    metrics.rpc_errors.labels("VerifyKey", "UNAVAILABLE").inc()
    metrics.watch_counter("verdicts", "Verdicts.", lambda: {"VALID": 3}, label="code")
    described_by = {str(number): described(metrics.registry) for number in range(3)}
    text = asyncio.run(page(Merged([], described_by)))
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_pages_take_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated requests wait nine times as long as the page took to generate."""
    now, waited = 0.0, []

    def read() -> float:
        nonlocal now
        now += 0.5
        return now

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    metrics_page = MetricsPage(read)
    for _ in range(3):
        assert (await metrics_page.answer(Call("GET", "/metrics", []), merged(1))).status == 200
    # It takes half a second by this clock, and another half has passed when the next request arrives.
    assert waited == [4.0, 4.0]
