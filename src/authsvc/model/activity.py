"""The activity of a session, as one worker knows it, and the idle timeout that counts from it.

A session ends `idle_timeout` after its last activity, at the same instant on every worker, although each
worker writes the activity that it sees a few seconds later. These rules make it so:

- A worker that knows of an activity within the timeout may answer, because other activity can only move the
  end later.
- Any other worker asks the database before it says that the session has ended.
- The database knows enough by then. An activity within `GUARD` of the recorded end is recorded before it is
  answered, and all others are written within that time, unless the database is unreachable or the worker is
  killed.
- The answer of the database is final. It records that the session is over, and accepts no activity for it any
  more. So workers agree even if one of them writes too late.
"""

from datetime import datetime, timedelta

# Three times the longest interval between two writes (AUTHSVC_ACTIVITY_INTERVAL), and less than any timeout.
GUARD = timedelta(seconds=45)
MAX_INTERVAL_SECONDS = GUARD.total_seconds() / 3
SHORTEST_TIMEOUT = timedelta(minutes=1)


class Activity:
    """The last activity that this worker knows, and the last one that is surely recorded. Mutable."""

    __slots__ = ("_certain_until", "_is_over", "_recorded", "idle_timeout", "last")

    def __init__(self, last: datetime, idle_timeout: timedelta) -> None:
        self.last = last
        self.idle_timeout = idle_timeout
        self._recorded = last
        self._certain_until = last + idle_timeout - GUARD
        self._is_over = False

    @property
    def idle_end(self) -> datetime:
        """When the session ends unless there is more activity."""
        return self.last + self.idle_timeout

    @property
    def recorded(self) -> datetime:
        """The last activity that is surely recorded."""
        return self._recorded

    @property
    def is_over(self) -> bool:
        """Whether the database has said that the session is over."""
        return self._is_over

    def is_idle(self, now: datetime) -> bool:
        """Return whether the timeout is over, as far as this worker knows."""
        return self._is_over or now >= self.last + self.idle_timeout

    def is_certain(self, now: datetime) -> bool:
        """Return whether `is_idle` is right without asking the database."""
        return self._is_over or now < self._certain_until

    def note(self, now: datetime) -> None:
        """Take note of a use, which will be written later."""
        if now > self.last:
            self.last = now

    def learn(self, recorded: datetime) -> None:
        """Take over the last activity from the database."""
        self._recorded = max(recorded, self._recorded)
        self._certain_until = self._recorded + self.idle_timeout - GUARD
        self.last = max(recorded, self.last)

    def end(self) -> None:
        """Take over from the database that the session is over, permanently."""
        self._is_over = True
