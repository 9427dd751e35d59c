"""When mail is tried again."""

from collections.abc import Callable
from datetime import datetime, timedelta

#: How long a message is tried; RFC 5321, 4.5.4.1, says four to five days.
GIVE_UP_AFTER = timedelta(days=5)
_DELAYS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 120, 240))
_MIN_PAUSE, _MAX_PAUSE = timedelta(seconds=5), timedelta(minutes=5)

Random = Callable[[], float]


def retry_delay(attempt_count: int, random: Random) -> timedelta:
    """Return how long to wait after so many attempts: a minute to four hours, a fifth more or less."""
    return _DELAYS[min(attempt_count, len(_DELAYS)) - 1] * _jitter(random)


class Pause:
    """The pause of all mail while the server cannot be used: five seconds up to five minutes."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._delay = timedelta(0)
        self._until: datetime | None = None

    def lasts(self, now: datetime) -> bool:
        """Return whether nothing is to be sent yet."""
        return self._until is not None and now < self._until

    def begin(self, now: datetime) -> bool:
        """Note that the server cannot be used; return whether it could be before."""
        first = self._until is None
        self._delay = min(max(_MIN_PAUSE, 2 * self._delay), _MAX_PAUSE)
        self._until = now + self._delay * _jitter(self._random)
        return first

    def end(self) -> bool:
        """Note that the server can be used; return whether it could not before."""
        had_problems, self._delay, self._until = self._until is not None, timedelta(0), None
        return had_problems


def _jitter(random: Random) -> float:
    return 0.8 + 0.4 * random()
