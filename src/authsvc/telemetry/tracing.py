"""Spans by OpenTelemetry, which is imported here and nowhere else in the service.

Mechanism: a provider of the process's own, which is made after the fork. A thread of the SDK exports what has
ended, in batches, by OTLP. What is under way is kept in `current_call`, so the SDK's own context is not used.

Bound: `sampler.MAX_PER_SECOND` traces are recorded in a second; further calls are answered without. On
connections without a caller fewer begin. The queue and the batches are those of `OTEL_BSP_*`: by default 2048
spans wait, and what comes then is dropped. A stop waits `FLUSH_SECONDS` for the last spans.

Failure: what cannot be exported is dropped. Calls do not wait for that. The log has one line when it begins,
and one when it has ended.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from authsvc import __version__
from authsvc.model.key_string import redact
from authsvc.telemetry.current_call import CurrentCall, answering, current_call
from authsvc.telemetry.sampler import BoundedSampler
from authsvc.telemetry.spans import NO_ATTRIBUTES, Attributes, Headers, Span

_log = logging.getLogger(__name__)

#: Seconds that a stop waits for the last spans.
FLUSH_SECONDS = 3.0
_CONTEXT = TraceContextTextMapPropagator()
_ROOT = Context()
_SAMPLED = frozenset("13579bdf")
# What is to be passed on at least (W3C Trace Context, 3.3.1.5).
_MAX_STATE_LENGTH = 512


class OtelSpan:
    """A span of the SDK; see `spans.Span`."""

    __slots__ = ("_span", "headers", "trace_id")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier, self.context)
        #: See `spans.Span`.
        self.headers: Sequence[tuple[str, str]] = tuple(carrier.items())
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    @property
    def context(self) -> Context:
        """The context in which spans are inside of it."""
        return trace.set_span_in_context(self._span, _ROOT)

    @property
    def is_recorded(self) -> bool:
        """See `spans.Span`."""
        return self._span.is_recording()

    def note(self, attributes: Attributes) -> None:
        """See `spans.Span`."""
        self._span.set_attributes(attributes)

    def fail(self, why: str) -> None:
        """See `spans.Span`."""
        self._span.set_attribute("error.type", why)
        self._span.set_status(Status(StatusCode.ERROR, why))

    def end(self) -> None:
        """See `spans.Span`."""
        self._span.end()


class OtelTracer:
    """Makes spans; see `spans.Tracer`."""

    def __init__(self, provider: TracerProvider, sampler: BoundedSampler) -> None:
        self._tracer = provider.get_tracer("authsvc", __version__)
        self._sampler = sampler

    def has_room(self, *, is_known: bool) -> bool:
        """See `spans.Tracer`. What is inside of a trace, such as the calls of a page, takes no room."""
        return _here() is not None or self._sampler.has_room(is_known=is_known)

    def admits(self, headers: Headers, *, in_share: bool) -> bool:
        """See `spans.Tracer`."""
        parent = headers.get("traceparent")
        return in_share if parent is None else parent[-1:] in _SAMPLED

    def begin_call(self, name: str, headers: Headers, attributes: Attributes) -> OtelSpan:
        """See `spans.Tracer`."""
        return self._begin(name, _here() or _parent(headers), SpanKind.SERVER, attributes)

    @contextmanager
    def inside(self, name: str, attributes: Attributes = NO_ATTRIBUTES) -> Iterator[Span | None]:
        """See `spans.Tracer`."""
        outer = _here()
        if outer is None:
            yield None
            return
        with self._as_current(self._begin(name, outer, SpanKind.INTERNAL, attributes)) as span:
            yield span

    @contextmanager
    def resumed(self, name: str, trace_parent: str, attributes: Attributes = NO_ATTRIBUTES) -> Iterator[Span]:
        """See `spans.Tracer`."""
        parent = _parent({"traceparent": trace_parent} if trace_parent else {})
        with self._as_current(self._begin(name, parent, SpanKind.CLIENT, attributes)) as span:
            yield span

    def past(self, span: Span, name: str, seconds: float, attributes: Attributes) -> None:
        """See `spans.Tracer`."""
        if isinstance(span, OtelSpan) and span.is_recorded:
            begin = time.time_ns() - int(seconds * 1e9)
            self._tracer.start_span(name, span.context, attributes=attributes, start_time=begin).end()

    def _begin(self, name: str, parent: Context, kind: SpanKind, attributes: Attributes) -> OtelSpan:
        return OtelSpan(self._tracer.start_span(name, parent, kind, attributes))

    @contextmanager
    def _as_current(self, span: OtelSpan) -> Iterator[OtelSpan]:
        call = current_call()
        try:
            with answering(CurrentCall("" if call is None else call.request_id, span)):
                yield span
        except BaseException as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()


class Tracing:
    """The tracing of one process, from its start to its end."""

    def __init__(self, exporter: SpanExporter, process: str) -> None:
        """Take what exports, and the name of the process, such as `worker 0`."""
        # By OTEL_TRACES_SAMPLER, which is parentbased_always_on by default.
        self._provider = TracerProvider(resource=_resource(process), shutdown_on_exit=False)
        sampler = self._provider.sampler = BoundedSampler(self._provider.sampler)
        # What exporters log of each failure is left out, since `_Reported` says it once.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._provider.add_span_processor(BatchSpanProcessor(_Reported(exporter)))
        #: Makes the spans.
        self.tracer = OtelTracer(self._provider, sampler)

    async def stop(self, seconds: float = FLUSH_SECONDS) -> None:
        """Export the last spans, within a time."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        # A thread that nobody waits for at the end of the process.
        threading.Thread(target=self._shut_down, args=(loop, ended), daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            _log.warning("the last spans were not exported within %g s, and are lost", seconds)

    def _shut_down(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        self._provider.shutdown()
        try:
            loop.call_soon_threadsafe(ended.set)
        except RuntimeError:  # nobody waits any more
            return


class _Reported(SpanExporter):
    """Exports, and says once in the log that it fails."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever the exporter makes of its network
            result = SpanExportResult.FAILURE
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            _log.warning(
                "spans cannot be exported, and are dropped until that is possible: does a collector answer "
                "at OTEL_EXPORTER_OTLP_ENDPOINT?"
            )
        elif self._fails and not fails:
            _log.info("spans are exported again")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _here() -> Context | None:
    """Return the context of the current span, if there is one."""
    call = current_call()
    span = None if call is None else call.span
    return span.context if isinstance(span, OtelSpan) else None


def _parent(headers: Headers) -> Context:
    carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    state = carrier.get("tracestate", "")
    # A long one takes as long to read as a hundred calls, and may be dropped.
    if len(state) > _MAX_STATE_LENGTH or redact(state) != state:
        carrier.pop("tracestate", None)
    return _CONTEXT.extract(carrier, _ROOT)


def _resource(process: str) -> Resource:
    attributes = {"service.version": __version__, "authsvc.process": process}
    if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        attributes["service.name"] = "authsvc"
    return Resource.create(attributes)
