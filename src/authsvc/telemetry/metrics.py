"""The metrics of a process. Each is declared here or registered by `app/gauges`."""

import platform
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Metric, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from authsvc import __version__
from authsvc.telemetry.durations import BOUNDS, Durations

_BOUND_TEXTS = tuple(map(floatToGoString, BOUNDS))
# The codes of errors that alerts look for. Each method has them from the start, with 0: the first error of a
# series that begins with it is not seen by `rate`.
_WATCHED_CODES = (
    *("UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"),
    *("UNAUTHENTICATED", "PERMISSION_DENIED"),
)
# A sample more for each of them, which says when it was created: with its process.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # It reads /proc, and so has metrics on Linux only.
        ProcessCollector(registry=self.registry)
        self.registry.register(_Build())
        self.rpc_errors = Counter(
            "authsvc_rpc_errors",
            "The number of RPCs that were refused or failed.",
            ["method", "code"],
            registry=self.registry,
        )
        self._rpc_seconds: dict[str, Durations] = {}
        self.watch_durations(
            "rpc_seconds",
            "The time from the arrival of a request to its response, in seconds.",
            lambda: self._rpc_seconds,
            label="method",
        )

    def calls_of(self, method: str, *, is_verification: bool) -> Callable[[float], None]:
        """Return what takes the seconds of each call of a method.

        The buckets of verifications are there from the start, because an objective is about them.
        """
        for code in _WATCHED_CODES:
            self.rpc_errors.labels(method, code)
        return self._rpc_seconds.setdefault(method, Durations(is_sparse=not is_verification)).observe

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

    def watch_durations(
        self, name: str, text: str, read: Callable[[], Durations | Mapping[str, Durations]], label: str = ""
    ) -> None:
        """Add a histogram, or one for each value of a label. `read` is called at each scrape."""
        self.registry.register(_DurationsAtScrape(f"authsvc_{name}", text, read, label))


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


class _DurationsAtScrape(Collector):
    def __init__(
        self, name: str, text: str, read: Callable[[], Durations | Mapping[str, Durations]], label: str
    ) -> None:
        self._name, self._text, self._read, self._label = name, text, read, label

    def collect(self) -> Iterable[Metric]:
        now = self._read()
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label] if self._label else [])
        for value, durations in now.items() if isinstance(now, Mapping) else [("", now)]:
            buckets = list(zip(_BOUND_TEXTS, durations.counts, strict=True))
            if durations.is_sparse and not durations.counts[-1]:
                buckets = buckets[-1:]
            family.add_metric([value] if self._label else [], buckets, durations.total)
        yield family


class _Build(Collector):
    def __init__(self) -> None:
        self._family = GaugeMetricFamily(
            "authsvc_build_info",
            "1; the labels say which version runs, and in which Python.",
            labels=["version", "python"],
        )
        self._family.add_metric([__version__, platform.python_version()], 1)

    def collect(self) -> Iterable[Metric]:
        yield self._family
