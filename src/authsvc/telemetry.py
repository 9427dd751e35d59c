"""What the service tells its operators: logs and metrics.

Every metric is declared here. Every log line, ours and the libraries', leaves
through one formatter, which cuts key strings down to their prefix.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

_BEFORE: list[structlog.types.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


class _Redacting(logging.Formatter):
    def __init__(self, inner: logging.Formatter, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._inner = inner
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(self._inner.format(record))


def configure_logging(
    level: str, style: str, redact: Callable[[str], str], stream: TextIO | None = None
) -> None:
    """Send all logs of the process to `stream` (default: standard error), redacted."""
    target = sys.stderr if stream is None else stream
    as_text = style == "text" or (style == "auto" and target.isatty())
    renderer = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_BEFORE,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if as_text else [structlog.processors.format_exc_info]),
            renderer,
        ],
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(_Redacting(formatter, redact))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[*_BEFORE, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rpc_errors = Counter(
            "authsvc_rpc_errors",
            "RPCs that were refused or failed.",
            ["method", "code"],
            registry=self.registry,
        )
        self.rpc_seconds = Histogram(
            "authsvc_rpc_seconds",
            "Time from a request's arrival to its answer.",
            ["method"],
            buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
            registry=self.registry,
        )

    def watch_gauge(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], label: str = ""
    ) -> None:
        """Show a number that a part keeps anyway, or one a label's value; read when somebody looks."""
        self.registry.register(_Watched(GaugeMetricFamily, f"authsvc_{name}", text, read, label))

    def watch_counter(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], label: str = ""
    ) -> None:
        """Show a count that a part keeps anyway, or one for each value of a label."""
        self.registry.register(_Watched(CounterMetricFamily, f"authsvc_{name}", text, read, label))


class _Watched(Collector):
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
