"""Which traces are recorded: those that another sampler chooses, and no more than a number in a second.

Any caller can ask for a trace, by the flag in its `traceparent`.
"""

import time
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

#: Traces that a process begins, or continues for a caller, in a second.
MAX_PER_SECOND = 200
#: With so many in a second, no more begin for connections on which no caller was authenticated yet.
MAX_WITH_STRANGERS = 50


class BoundedSampler(Sampler):
    """Bounds the number of sampled traces. Spans inside of one that is sampled are not counted."""

    def __init__(self, sampler: Sampler, now: Callable[[], float] = time.monotonic) -> None:
        """Take what chooses, and a clock in seconds."""
        self._sampler, self._now = sampler, now
        self._begun, self._until = 0, 0.0

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return what the other sampler says, as long as there is room."""
        asked = parent_context, trace_id, name, kind, attributes, links
        chosen = self._sampler.should_sample(*asked)
        parent = trace.get_current_span(parent_context).get_span_context()
        if chosen.decision is not Decision.RECORD_AND_SAMPLE or (parent.is_valid and not parent.is_remote):
            return chosen
        return chosen if self._takes() else ALWAYS_OFF.should_sample(*asked)

    def get_description(self) -> str:
        """Return a description for people."""
        return f"Bounded{{{self._sampler.get_description()}}}"

    def has_room(self, *, is_known: bool) -> bool:
        """Return whether a trace may begin on a connection whose caller is known, or is not known yet."""
        most = MAX_PER_SECOND if is_known else MAX_WITH_STRANGERS
        return self._begun < most or self._now() >= self._until

    def _takes(self) -> bool:
        now = self._now()
        if now >= self._until:
            self._begun, self._until = 0, now + 1
        self._begun += 1
        return self._begun <= MAX_PER_SECOND
