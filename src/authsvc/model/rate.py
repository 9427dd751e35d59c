"""Rate limits by GCRA, the generic cell rate algorithm.

For each name, one number is kept: the instant at which all its events would have been due at the even rate. A
name may be ahead of that by a burst. One that is not ahead can be forgotten without any effect.

Bound: at most `max_names` names are kept. Beyond that, the name that was used least recently is forgotten,
and starts again with a full burst.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

_MAX_NAMES = 100_000


class Rate(NamedTuple):
    """An average rate, and a burst: how many events may come at the same time. 0 per second is no limit."""

    per_second: float
    burst: int

    def __str__(self) -> str:
        return f"{self.per_second:g}/{self.burst}" if self.per_second else "0"


UNLIMITED = Rate(0, 0)


class Limiter:
    """Limits each name to a rate. `now` is a stopwatch in seconds."""

    def __init__(self, rate: Rate, now: Callable[[], float], *, max_names: int = _MAX_NAMES) -> None:
        self._now = now
        self._max_names = max_names
        self._interval = 1 / rate.per_second if rate.per_second else 0.0
        # How many seconds a name may be ahead of the even rate when its next event comes.
        self._tolerance = self._interval * (rate.burst - 1)
        self._due: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def wait(self, name: str) -> float:
        """Return the seconds until the next event is allowed; 0 if it is now. Does not count one."""
        due = self._due.get(name)
        return 0.0 if due is None else max(0.0, due - self._tolerance - self._now())

    def take(self, name: str) -> float:
        """Count an event and return 0; over the limit, return the seconds until the next one instead."""
        if not self._interval:
            return 0.0
        now = self._now()
        due = max(self._due.get(name, now), now)
        if due - now > self._tolerance:
            return due - now - self._tolerance
        self._due[name] = due + self._interval
        self._due.move_to_end(name)
        if len(self._due) > self._max_names:
            self._due.popitem(last=False)
        return 0.0
