"""Two clocks: the time of day, which is the database's, and a stopwatch that nobody can set.

Workers on machines whose wall clocks differ judge by one time: the database's, read
at each renewal of the lease and carried forward by the stopwatch. The wall clock of the
machine decides nothing.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
Stopwatch = Callable[[], float]

# Linux has a clock that goes on while the machine is suspended; elsewhere CLOCK_MONOTONIC does.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# What the readings of one clock may differ by, from one round trip to the next.
_JITTER = 1.0
_PRECISE = 0.5


def boottime() -> float:
    """Return the seconds since some instant, suspension included; not touched by setting the wall clock."""
    return time.clock_gettime(_BOOTTIME)


class DatabaseClock:
    """The database's time in UTC, carried forward between readings.

    Off by at most half a round trip, a quarter of a second once there was a quick one, and
    by what the stopwatch drifts between two readings.
    It does not go back by less than a second, which is what readings differ by; when
    the database's own clock was set back by more, it follows.
    """

    def __init__(self, stopwatch: Stopwatch = boottime) -> None:
        self._stopwatch = stopwatch
        self._start = 0.0
        self._latest = 0.0

    def set(self, now: datetime, asked: float, answered: float) -> None:
        """Take a reading: the database's time was `now` between two instants of the stopwatch (Cristian).

        One that took long says little, and is not taken when there is another.
        """
        if answered - asked < _PRECISE or not self._start:
            self._start = now.timestamp() - (asked + answered) / 2

    def __call__(self) -> datetime:
        """Return the database's time."""
        now = self._start + self._stopwatch()
        if now < self._latest < now + _JITTER:
            now = self._latest
        else:
            self._latest = now
        return datetime.fromtimestamp(now, UTC)
