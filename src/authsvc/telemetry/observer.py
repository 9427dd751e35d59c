"""Observes calls, for the access log and for traces.

Mechanism: where neither is on, there is no observer, and endpoints are built that do not ask for one. An
observer sees each call that is no verification. Of verifications it sees a share, those whose callers ask for
a trace, and those that end with an error. What a caller asks for does not decide what is logged.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Flag, auto
from random import random

from authsvc.model.caller import Caller
from authsvc.telemetry.access_log import AccessLog, Outcome
from authsvc.telemetry.current_call import CurrentCall, answering
from authsvc.telemetry.spans import Span, Tracer

#: The headers of a call that are read besides those that every call is looked at for.
HEADERS = ("traceparent", "tracestate")
#: Takes the ids of the events that a call has recorded, and the `traceparent` of what follows from them.
NoteEvents = Callable[[Sequence[str], str], object]

# The codes that are a fault of the service, by OpenTelemetry's conventions for RPCs: UNKNOWN,
# DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
_FAULTS = frozenset({2, 4, 12, 13, 14, 15})


class Chosen(Flag):
    """What is made of a call."""

    NOTHING = 0
    LINE = auto()
    TRACE = auto()
    ALL = LINE | TRACE


class Observer:
    """Observes the calls of a worker over one protocol."""

    def __init__(
        self,
        access_log: AccessLog,
        tracer: Tracer | None,
        *,
        ratio: float,
        note_events: NoteEvents = lambda _ids, _parent: None,
        system: str = "grpc",
    ) -> None:
        """Take the share of verifications that is logged, and the protocol by its name in spans."""
        self._access_log, self._tracer, self._ratio = access_log, tracer, ratio
        self._note_events, self._system = note_events, system

    def over(self, system: str) -> "Observer":
        """Return the same for another protocol."""
        return Observer(
            self._access_log,
            self._tracer,
            ratio=self._ratio,
            note_events=self._note_events,
            system=system,
        )

    def choose(self, headers: Iterable[tuple[str, str | bytes]], *, is_known: bool) -> Chosen:
        """Return what is made of a verification. It is cheap, and never raises.

        `is_known` is whether a caller was authenticated on the connection.
        """
        in_share = random() < self._ratio  # noqa: S311 - no secret
        chosen = Chosen.LINE if in_share and self._access_log.takes_all else Chosen.NOTHING
        if self._tracer is not None and self._tracer.has_room(is_known=is_known):
            found = {name: str(value) for name, value in headers if name in HEADERS}
            if self._tracer.admits(found, in_share=in_share):
                chosen |= Chosen.TRACE
        return chosen

    @contextmanager
    def observed(
        self,
        service: str,
        method: str,
        call: CurrentCall,
        headers: Iterable[tuple[str, str | bytes]],
        chosen: Chosen,
        *,
        is_known: bool,
    ) -> Iterator["Observation"]:
        """Observe a call while the block runs. An error is logged whatever is chosen."""
        observation = Observation(f"{service}/{method}", self._system, call)
        if self._tracer is not None and Chosen.TRACE in chosen and self._tracer.has_room(is_known=is_known):
            found: dict[str, str] = {}
            for name, value in headers:
                if name in HEADERS:
                    found.setdefault(name, str(value))
            attributes = {"authsvc.request_id": call.request_id}
            if self._system == "http":
                attributes["http.request.method"] = method
            else:
                attributes |= {"rpc.system": self._system, "rpc.service": service, "rpc.method": method}
            observation.begin(self._tracer, self._tracer.begin_call(observation.name, found, attributes))
        try:
            yield observation
        finally:
            observation.end(self._note_events)
            if Chosen.LINE in chosen or observation.outcome.number:
                with answering(call):
                    self._access_log.write(
                        observation.name, self._system, observation.outcome, observation.seconds
                    )


class Observation:
    """One call that is observed."""

    def __init__(self, name: str, system: str, call: CurrentCall) -> None:
        self.name, self._system, self._call = name, system, call
        #: How it ends.
        self.outcome = Outcome()
        self._started = time.perf_counter()
        self._tracer: Tracer | None = None
        self._span: Span | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.perf_counter() - self._started

    def begin(self, tracer: Tracer, span: Span) -> None:
        """Trace it."""
        self._tracer = tracer
        self._span = self._call.span = span

    def waited(self, caller: Caller | None) -> None:
        """Add the wait of a change for the workers, which has just ended, if there was one."""
        confirmation = None if caller is None else caller.confirmation
        if self._tracer is None or self._span is None or confirmation is None or confirmation.seconds is None:
            return
        attributes: dict[str, str | int | Sequence[str]] = {
            "authsvc.barrier.workers": confirmation.workers or 0,
            "authsvc.barrier.unconfirmed": confirmation.unconfirmed,
            "authsvc.barrier.last": confirmation.last,
        }
        if confirmation.holders is not None:
            attributes["authsvc.barrier.holders"] = confirmation.holders
        self._tracer.past(self._span, "barrier", confirmation.seconds, attributes)

    def end(self, note_events: NoteEvents) -> None:
        """End the span."""
        span, outcome = self._span, self.outcome
        if span is None:
            return
        caller = outcome.caller
        if span.is_recorded:
            if caller is not None and caller.confirmation is not None and caller.confirmation.recorded:
                parent = dict(span.headers).get("traceparent", "")
                note_events([each.event_id for each in caller.confirmation.recorded], parent)
            span.note(self._attributes(outcome))
            if outcome.number in _FAULTS:
                span.fail(outcome.code)
        span.end()

    def _attributes(self, outcome: Outcome) -> Mapping[str, str | int]:
        noted: dict[str, str | int] = {}
        if self._system == "grpc":
            noted["rpc.grpc.status_code"] = outcome.number
        elif self._system == "http":
            noted["http.response.status_code"] = int(outcome.verdict or 500)
        elif outcome.number:
            noted["rpc.connect_rpc.error_code"] = outcome.code.lower()
        if outcome.reason:
            noted["authsvc.reason"] = outcome.reason
        if outcome.verdict:
            noted["authsvc.verdict"] = outcome.verdict
        if outcome.caller is not None:
            noted["authsvc.caller_id"] = outcome.caller.credential_id
            noted["authsvc.owner_id"] = outcome.caller.owner_id
        return noted
