"""How often somebody may do something: GCRA, the generic cell rate algorithm.

Of each name one number is kept: when all that it did would have been due at the even rate. It may be ahead of
that by a burst. A name that is not ahead needs no number, so forgetting it changes nothing.

Bound: so many names are kept; beyond that the one that was seen least recently is forgotten, and begins anew.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

_MAX_NAMES = 100_000


class Rate(NamedTuple):
    """So many a second in the long run, and `burst` at once; 0 a second: no limit."""

    per_second: float
    burst: int

    def __str__(self) -> str:
        return f"{self.per_second:g}/{self.burst}" if self.per_second else "0"


UNLIMITED = Rate(0, 0)


class Limiter:
    """Holds each name to a rate, by a stopwatch in seconds."""

    def __init__(self, rate: Rate, now: Callable[[], float], *, max_names: int = _MAX_NAMES) -> None:
        self._now = now
        self._max_names = max_names
        self._interval = 1 / rate.per_second if rate.per_second else 0.0
        # How far ahead of the even rate a name may be before it does one thing more.
        self._tolerance = self._interval * (rate.burst - 1)
        self._due: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def wait(self, name: str) -> float:
        """Return in how many seconds there is room for one more; 0: now. Takes nothing."""
        due = self._due.get(name)
        return 0.0 if due is None else max(0.0, due - self._tolerance - self._now())

    def take(self, name: str) -> float:
        """Count one and return 0; or count none and return in how many seconds there is room."""
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
