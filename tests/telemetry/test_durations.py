"""Histograms of durations, and the lag of an event loop."""

import asyncio
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from authsvc.app.loop_lag import LoopLag
from authsvc.telemetry import Metrics
from authsvc.telemetry.durations import BOUNDS, Durations


@settings(max_examples=30)
@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from(BOUNDS[:-1])), max_size=50))
def test_it_counts_as_the_library_does(seconds: list[float]) -> None:
    """The same samples as a histogram of prometheus_client with these bounds, also on a bound."""
    ours, theirs = Metrics(), CollectorRegistry()
    durations, oracle = Durations(), Histogram("authsvc_x", "X.", buckets=BOUNDS[:-1], registry=theirs)
    ours.watch_durations("x", "X.", lambda: durations)
    for each in seconds:
        durations.observe(each)
        oracle.observe(each)
    names = [("authsvc_x_bucket", {"le": str(bound)}) for bound in (*BOUNDS[:-1], "+Inf")]
    for name, labels in (*names, ("authsvc_x_count", {}), ("authsvc_x_sum", {})):
        expected = theirs.get_sample_value(name, labels)
        assert expected is not None
        assert ours.registry.get_sample_value(name, labels) == pytest.approx(expected)


def test_the_bounds_show_what_is_fast_and_what_is_slow() -> None:
    """Several below a millisecond, several from ten seconds to a minute, and a few in all."""
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert sum(bound <= 0.001 for bound in BOUNDS) >= 5
    assert sum(10 <= bound < inf for bound in BOUNDS) >= 3
    assert len(BOUNDS) <= 20


async def test_the_lag_is_what_a_sleep_takes_too_long() -> None:
    """A quarter of a second that takes a whole one is late by the rest; one that takes too little is not."""
    now, lengths = 0.0, iter([0.25, 1.0, 0.2])

    async def sleep(_: float) -> None:
        nonlocal now
        try:
            now += next(lengths)
        except StopIteration:
            raise asyncio.CancelledError from None

    loop_lag = LoopLag(sleep, lambda: now)
    with pytest.raises(asyncio.CancelledError):
        await loop_lag.run()
    assert (loop_lag.lags.counts[-1], loop_lag.lags.total) == (3, 0.75)
