"""How long calls took: a histogram that costs a hot path a quarter of a microsecond.

That of prometheus_client takes locks, since it may be used by several threads. Calls are served, and metrics
scraped, by one.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, float("inf"))


class _Latency:
    """The calls of one method: how many took at most each bound, and more than the one before; their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(_BOUNDS, seconds)] += 1
        self.total += seconds


class Latencies(Collector):
    """Seconds by method."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._latencies: dict[str, _Latency] = {}

    def of(self, method: str) -> Callable[[float], None]:
        """Return what takes the seconds of each call of a method."""
        return self._latencies.setdefault(method, _Latency()).observe

    def collect(self) -> Iterable[Metric]:
        """Return the histogram."""
        family = HistogramMetricFamily(self._name, self._text, labels=["method"])
        for method, latency in self._latencies.items():
            counted = zip(map(floatToGoString, _BOUNDS), accumulate(latency.counts), strict=True)
            family.add_metric([method], [(bound, count) for bound, count in counted], latency.total)
        yield family
