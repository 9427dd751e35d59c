"""Which calls are logged and traced: what callers ask for decides about their traces, and within bounds."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from authsvc.telemetry.access_log import AccessLog
from authsvc.telemetry.current_call import CurrentCall, answering
from authsvc.telemetry.observer import Chosen, Observer
from authsvc.telemetry.sampler import MAX_PER_SECOND, MAX_WITH_STRANGERS, BoundedSampler
from authsvc.telemetry.tracing import OtelSpan, OtelTracer

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_ASKED, _UNRECORDED = (f"00-{_TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))


class Second:
    """A second in which traces begin."""

    def __init__(self, ratio: float) -> None:
        self.now = 0.0
        sampler = BoundedSampler(ALWAYS_ON, lambda: self.now)
        tracer = OtelTracer(TracerProvider(sampler=sampler, shutdown_on_exit=False), sampler)
        self.observer = Observer(AccessLog("all"), tracer, ratio=ratio)

    def chosen(self, parent: str | None, *, is_known: bool = True) -> Chosen:
        """Return what is made of a verification with this header."""
        return self.observer.choose([("traceparent", parent)] if parent else [], is_known=is_known)

    def begun(self, *, is_known: bool) -> bool:
        """Make a call that is no verification; return whether its trace is recorded."""
        call = CurrentCall("a call")
        with self.observer.observed("a", "b", call, [], Chosen.ALL, is_known=is_known):
            return isinstance(call.span, OtelSpan) and call.span.is_recorded


@pytest.mark.parametrize(
    ("parent", "traced"), [(None, True), (_ASKED, True), (_UNRECORDED, False), ("garbage", False), ("", True)]
)
def test_a_caller_does_not_decide_what_is_logged(parent: str | None, traced: bool) -> None:
    """With a share of 1, each verification is; with 0, none."""
    assert Second(1).chosen(parent) == (Chosen.ALL if traced else Chosen.LINE)
    assert Chosen.LINE not in Second(0).chosen(parent)


def test_what_is_in_the_share_is_logged_and_traced() -> None:
    """So the line has the id of a trace that there is."""
    second = Second(0.5)
    found = {second.chosen(None) for _ in range(1000)}
    assert found == {Chosen.NOTHING, Chosen.ALL}


def test_too_many_traces_cost_nothing() -> None:
    """Beyond the bound a verification is answered on the fast way, whatever its caller asks for."""
    second = Second(0)
    assert all(second.begun(is_known=True) for _ in range(MAX_PER_SECOND))
    assert second.chosen(_ASKED) == Chosen.NOTHING
    assert not second.begun(is_known=True)
    second.now = 1.0
    assert second.chosen(_ASKED) == Chosen.TRACE


def test_strangers_leave_room_for_callers() -> None:
    """Calls without a credential begin traces before they are refused."""
    second = Second(0)
    assert sum(second.begun(is_known=False) for _ in range(1000)) == MAX_WITH_STRANGERS
    assert second.chosen(_ASKED, is_known=False) == Chosen.NOTHING
    assert second.begun(is_known=True)


def test_what_is_inside_of_a_trace_takes_no_room() -> None:
    """Otherwise the trace of a page would lack the calls that the page makes."""
    second, page = Second(0), CurrentCall("a page")
    with second.observer.observed("a", "page", page, [], Chosen.ALL, is_known=True), answering(page):
        for _ in range(MAX_PER_SECOND):
            second.begun(is_known=True)
        assert second.begun(is_known=False)
    while second.begun(is_known=True):
        pass
    assert not second.begun(is_known=False)


@pytest.mark.parametrize(("length", "kept"), [(512, True), (513, False)])
def test_a_long_state_of_a_trace_is_dropped(length: int, kept: bool) -> None:
    """It would take as long to read as a hundred calls take."""
    state = ",".join(f"{name}={'x' * 200}" for name in "ab") + ",c=" + "x" * (length - 408)
    call = CurrentCall("a call")
    headers = [("traceparent", _ASKED), ("tracestate", state)]
    with Second(0).observer.observed("a", "b", call, headers, Chosen.ALL, is_known=True):
        assert call.span is not None
        assert dict(call.span.headers).get("tracestate") == (state if kept else None)
        assert call.span.trace_id == _TRACE
