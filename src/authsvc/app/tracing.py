"""The tracing of a process, by the settings and the variables of OpenTelemetry."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from authsvc.config.settings import ConfigError, Settings
from authsvc.telemetry.spans import Tracer

if TYPE_CHECKING:
    from authsvc.telemetry.tracing import Tracing

# The exporters by the protocols of OTEL_EXPORTER_OTLP_PROTOCOL, and the packages that have them.
_EXPORTERS = {
    "grpc": ("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", "authsvc[otel]"),
    "http/protobuf": (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "opentelemetry-exporter-otlp-proto-http",
    ),
}


@asynccontextmanager
async def traced(settings: Settings, process: str) -> AsyncIterator[Tracer | None]:
    """Yield what makes spans while the block runs, None if nothing is traced; then export the last ones.

    Has to be called in the process that it is for, which may not fork any more. Raises ConfigError.
    """
    tracing = tracing_of(settings, process)
    if tracing is None:
        yield None
        return
    try:
        yield tracing.tracer
    finally:
        await tracing.stop()


def tracing_of(settings: Settings, process: str) -> "Tracing | None":
    """Return the tracing of a process; None if nothing is traced. Raises ConfigError."""
    if not _is_on(settings):
        return None
    tracing, exporter = _imported()
    try:
        made: Tracing = tracing.Tracing(exporter.OTLPSpanExporter(), process)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"AUTHSVC_TRACES: a variable OTEL_* cannot be used: {type(error).__name__}"
        ) from None
    return made


def check_traces(settings: Settings) -> None:
    """Raise ConfigError if there are to be traces and there cannot be."""
    if _is_on(settings):
        _imported()


def _is_on(settings: Settings) -> bool:
    if settings.traces == "off" or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if exporter not in ("otlp", "none"):
        raise ConfigError(
            "OTEL_TRACES_EXPORTER: authsvc exports by otlp; unset it, or set it to otlp or none"
        )
    return exporter == "otlp"


def _imported() -> tuple[Any, Any]:
    """Return the module of the SDK and that of the exporter."""
    protocol = (
        os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "grpc"
    )
    if protocol not in _EXPORTERS:
        raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL: set it to one of {', '.join(_EXPORTERS)}")
    name, package = _EXPORTERS[protocol]
    try:
        tracing = import_module("authsvc.telemetry.tracing")
    except ImportError as error:
        raise ConfigError(
            "AUTHSVC_TRACES: OpenTelemetry is not installed; pip install 'authsvc[otel]', or set it to off"
        ) from error
    try:
        return tracing, import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"AUTHSVC_TRACES: the exporter for {protocol} is not installed; pip install '{package}'"
        ) from error
