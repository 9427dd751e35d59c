"""The metrics of a process. Each is declared here or registered by `app/gauges`."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from authsvc.telemetry.latencies import Latencies


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rpc_errors = Counter(
            "authsvc_rpc_errors",
            "The number of RPCs that were refused or failed.",
            ["method", "code"],
            registry=self.registry,
        )
        self.rpc_seconds = Latencies(
            "authsvc_rpc_seconds", "The time from the arrival of a request to its response, in seconds."
        )
        self.registry.register(self.rpc_seconds)

    def watch_gauge(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], label: str = ""
    ) -> None:
        """Add a gauge, or one for each value of a label. `read` is called at each scrape."""
        self.registry.register(_ReadAtScrape(GaugeMetricFamily, f"authsvc_{name}", text, read, label))

    def watch_counter(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], label: str = ""
    ) -> None:
        """Add a counter, or one for each value of a label. `read` is called at each scrape."""
        self.registry.register(_ReadAtScrape(CounterMetricFamily, f"authsvc_{name}", text, read, label))


class _ReadAtScrape(Collector):
    def __init__(
        self,
        family: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        text: str,
        read: Callable[[], float | Mapping[str, float]],
        label: str,
    ) -> None:
        self._family = family
        self._name, self._text, self._read, self._label = name, text, read, label

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        now = self._read()
        if not isinstance(now, Mapping):
            return [self._family(self._name, self._text, value=now)]
        family = self._family(self._name, self._text, labels=[self._label])
        for value, count in now.items():
            family.add_metric([value], count)
        return [family]
