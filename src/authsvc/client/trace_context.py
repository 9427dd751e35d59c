"""The trace of the application, which a call of authsvc continues (W3C Trace Context).

OpenTelemetry is used if the application has imported it, and never imported here.
"""

import sys
from typing import Any


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Return the metadata `traceparent` of the current span of OpenTelemetry; () without one."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return ()
    return (("traceparent", f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"),)
