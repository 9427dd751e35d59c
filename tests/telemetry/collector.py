"""A collector of traces: the OTLP service of OpenTelemetry, which keeps what it receives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


class Span:
    """A span as it was received."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name: str = span.name
        self.kind: int = span.kind
        self.trace_id: str = span.trace_id.hex()
        self.span_id: str = span.span_id.hex()
        self.parent_id: str = span.parent_span_id.hex()
        self.attributes = _values(span.attributes)
        self.failed = span.status.code == 2
        self.seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        self.resource = resource

    def __repr__(self) -> str:
        return f"{self.name} {self.span_id} in {self.parent_id} {self.attributes}"


class Collector(TraceServiceServicer):
    """What was received."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        #: All bytes of it.
        self.data = b""
        self.port = 0
        self._changed = asyncio.Event()

    async def Export(self, request: Any, context: Any) -> Any:
        self.data += request.SerializeToString()
        for of_resource in request.resource_spans:
            resource = _values(of_resource.resource.attributes)
            for scope in of_resource.scope_spans:
                self.spans += [Span(span, resource) for span in scope.spans]
        self._changed.set()
        return pb.ExportTraceServiceResponse()

    async def until(self, holds: Callable[[list[Span]], bool]) -> None:
        """Wait until what was received fulfils a condition."""
        async with asyncio.timeout(30):
            while not holds(self.spans):
                self._changed.clear()
                await self._changed.wait()

    def of(self, trace_id: str) -> dict[str, Span]:
        """Return the spans of a trace by their names."""
        return {span.name: span for span in self.spans if span.trace_id == trace_id}


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return (
        [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)
    )


@asynccontextmanager
async def collecting(port: int = 0) -> AsyncIterator[Collector]:
    """Run a collector."""
    collector, server = Collector(), grpc.aio.server()
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)
