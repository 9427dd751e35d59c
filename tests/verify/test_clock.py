"""The database's time, extrapolated."""

from datetime import UTC, datetime, timedelta

import pytest

from authsvc.verify import clock as clocks
from authsvc.verify.clock import DatabaseClock, boottime

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Watch:
    """A stopwatch that the test moves."""

    def __init__(self) -> None:
        self.seconds = 5000.0

    def __call__(self) -> float:
        return self.seconds


def test_it_goes_on_with_the_stopwatch() -> None:
    """A reading counts from the moment at which it was taken."""
    watch = Watch()
    clock = DatabaseClock(watch)
    clock.set(NOON, 4998.9, 4999.1)
    assert clock() == NOON + timedelta(seconds=1)
    watch.seconds += 3600
    assert clock() == NOON + timedelta(seconds=3601)


def test_the_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither clock reads the machine's time of day."""
    clock = DatabaseClock()
    clock.set(NOON, boottime(), boottime())

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Wrong":
            raise AssertionError("the wall clock was asked")

    monkeypatch.setattr(clocks, "datetime", Wrong)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert timedelta(0) <= clock() - NOON < timedelta(minutes=5)


def test_readings_that_differ_a_little_do_not_take_it_back() -> None:
    """It stands still until the later reading has caught up, so that nothing becomes active again."""
    watch = Watch()
    clock = DatabaseClock(watch)
    clock.set(NOON, 5000.0, 5000.0)
    assert clock() == NOON
    clock.set(NOON - timedelta(milliseconds=20), 5000.0, 5000.0)
    assert clock() == NOON
    watch.seconds += 0.015
    assert clock() == NOON
    watch.seconds += 0.015
    assert clock() == NOON + timedelta(milliseconds=10)


def test_it_follows_a_database_that_was_set_back() -> None:
    """More than a second is not jitter: the database is right."""
    watch = Watch()
    clock = DatabaseClock(watch)
    clock.set(NOON, 5000.0, 5000.0)
    assert clock() == NOON
    clock.set(NOON - timedelta(hours=1), 5000.0, 5000.0)
    assert clock() == NOON - timedelta(hours=1)
    clock.set(NOON, 5000.0, 5000.0)
    assert clock() == NOON


def test_a_reading_that_took_long_is_not_taken() -> None:
    """It would move the time by half of its duration: what had expired would become active again."""
    watch = Watch()
    clock = DatabaseClock(watch)
    clock.set(NOON, 5000.0, 5000.2)
    before = clock()
    clock.set(NOON, 5000.0, 5005.0)
    assert clock() == before
