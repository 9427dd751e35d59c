"""What the service tells its operators: logs and metrics.

Every metric is declared here. Every log line, ours and the libraries', leaves
through one formatter, which cuts key strings down to their prefix.

Bound: a line has at most 32 values, a value at most `LONGEST_VALUE` characters, and a traceback
`LONGEST_TRACEBACK`, whatever text of a caller is in it. The middle of a longer one is left out.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_BEFORE: list[structlog.types.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


LONGEST_VALUE = 4096
LONGEST_TRACEBACK = 16 * 1024
_LONGEST = {"exception": LONGEST_TRACEBACK, "stack": LONGEST_TRACEBACK}
# Names are constants, but a library may log any number of values.
_MOST_VALUES = 32
_PART_OF_A_WORD = re.compile(r"\w{0,128}\Z"), re.compile(r"\A\w{0,128}")


def shortened(text: str, longest: int) -> str:
    """Return a text of about `longest` characters at most: the middle of a longer one is left out.

    A word is left out whole, up to 128 characters of it, since a part of a key string could not be told from
    other text and would not be redacted.
    """
    if len(text) <= longest:
        return text
    half = longest // 2
    head, tail = _PART_OF_A_WORD[0].sub("", text[:half]), _PART_OF_A_WORD[1].sub("", text[-half:])
    return f"{head}[... {len(text) - len(head) - len(tail)} characters left out ...]{tail}"


def _shorten(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Shorten the values of a log line, before they are rendered, so that JSON stays JSON."""
    for name in list(event)[_MOST_VALUES:]:
        del event[name]
    for name, value in event.items():
        if not isinstance(value, bool | int | float | None):
            text = value if isinstance(value, str) else repr(value)
            event[name] = shortened(text, _LONGEST.get(name, LONGEST_VALUE))
    return event


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
            structlog.processors.format_exc_info,
            _shorten,
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

    def watch_gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show a number that a part keeps anyway; read when somebody looks."""
        Gauge(f"authsvc_{name}", text, registry=self.registry).set_function(read)

    def watch_counter(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], label: str = ""
    ) -> None:
        """Show a count that a part keeps anyway, or one for each value of a label."""
        self.registry.register(_Watched(f"authsvc_{name}", text, read, label))


class _Watched(Collector):
    def __init__(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], label: str
    ) -> None:
        self._name, self._text, self._read, self._label = name, text, read, label

    def collect(self) -> list[CounterMetricFamily]:
        now = self._read()
        if not isinstance(now, Mapping):
            return [CounterMetricFamily(self._name, self._text, value=now)]
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in now.items():
            family.add_metric([value], count)
        return [family]
