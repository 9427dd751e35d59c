"""Spans, as the parts of the service make them: without OpenTelemetry, which `tracing` knows.

A part that can be traced is given a `Tracer` when the service is put together, or a part without one.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Protocol, TypeAlias

Attributes: TypeAlias = Mapping[str, str | int | float | bool | Sequence[str]]
NO_ATTRIBUTES: Attributes = MappingProxyType({})
Headers: TypeAlias = Mapping[str, str]


class Span(Protocol):
    """Something that takes time in a trace. Attributes never hold a secret."""

    @property
    def trace_id(self) -> str:
        """The id of the trace, 32 hexadecimal digits."""

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """The headers `traceparent` and, if there is one, `tracestate` of what is called."""

    @property
    def is_recorded(self) -> bool:
        """Whether it is sampled, so that anybody will see it."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, why: str) -> None:
        """Mark it as failed. `why` is a code or the name of a type, and no message."""

    def end(self) -> None:
        """End it."""


class Tracer(Protocol):
    """Makes spans."""

    def has_room(self, *, is_known: bool) -> bool:
        """Return whether a trace can begin now. `is_known`: a caller was authenticated on the connection."""

    def admits(self, headers: Headers, *, in_share: bool) -> bool:
        """Return whether a verification with these headers is traced; cheap, and never raises.

        `in_share` is whether it is, if its caller does not say.
        """

    def begin_call(self, name: str, headers: Headers, attributes: Attributes) -> Span:
        """Begin the span of a call: in the current span, or else in the trace that its headers name."""

    def inside(
        self, name: str, attributes: Attributes = NO_ATTRIBUTES
    ) -> AbstractContextManager[Span | None]:
        """Make a span in the current one while the block runs; none, where nothing is traced."""

    def resumed(
        self, name: str, trace_parent: str, attributes: Attributes = NO_ATTRIBUTES
    ) -> AbstractContextManager[Span]:
        """Make the span of an outgoing request in the trace of an earlier call; "": in a trace of its own."""

    def past(self, span: Span, name: str, seconds: float, attributes: Attributes) -> None:
        """Add a span inside another one that took so long, and has just ended."""
