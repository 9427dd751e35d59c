"""Two clocks: the time of the database, and a stopwatch that cannot be set.

All workers judge by the time of the database, even if the clocks of their machines differ. Each worker reads
it at every renewal of the lease, and adds the time on its stopwatch since then. The clock of the machine is
never used.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

Clock = Callable[[], datetime]
Stopwatch = Callable[[], float]

# On Linux, only CLOCK_BOOTTIME includes the time in which the machine is suspended.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# Two readings of one clock may differ by this much, because of their round trips.
_MAX_JITTER_SECONDS = 1.0
# A reading with a longer round trip is too imprecise to replace another.
_MAX_ROUND_TRIP_SECONDS = 0.5


#: Returns the seconds since some instant, suspension included. Nobody can set this clock.
boottime: Stopwatch = partial(time.clock_gettime, _BOOTTIME)


class DatabaseClock:
    """The time of the database in UTC, continued between readings.

    The error is at most half a round trip (a quarter of a second after the first quick one) plus the drift of
    the stopwatch between two readings. Steps back of less than a second are suppressed. When the clock of the
    database was set back by more, this one follows.
    """

    def __init__(self, stopwatch: Stopwatch = boottime) -> None:
        self._stopwatch = stopwatch
        self._start = 0.0
        self._latest = 0.0

    def set(self, now: datetime, asked: float, answered: float) -> None:
        """Use a reading: the time was `now` at some instant between `asked` and `answered` on the stopwatch.

        This is Cristian's algorithm. A slow reading is ignored, except for the first.
        """
        if answered - asked < _MAX_ROUND_TRIP_SECONDS or not self._start:
            self._start = now.timestamp() - (asked + answered) / 2

    def __call__(self) -> datetime:
        """Return the time of the database."""
        now = self._start + self._stopwatch()
        if now < self._latest < now + _MAX_JITTER_SECONDS:
            now = self._latest
        else:
            self._latest = now
        return datetime.fromtimestamp(now, UTC)
