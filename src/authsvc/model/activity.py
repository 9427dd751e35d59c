"""The activity of a session, as one worker knows it, and the idle timeout that counts from it.

A session ends `idle_timeout` after its last activity, to the instant and on every
worker, although each writes what it saw a few seconds late. What makes that so:

- Whoever knows of an activity within the timeout may answer: nobody knows of less.
- Whoever does not, asks the database before saying that the session has ended.
- The database knows enough when it is asked, since an activity that comes within
  `GUARD` of the recorded end is recorded before it is answered, and all others are
  written within that time, unless the database is away or the worker is killed.
- What the database has said is final: it keeps that the session is over, and takes no
  activity for it any more. So no two workers disagree, also when one wrote too late.
"""

from datetime import datetime, timedelta

# Three times the longest interval between two writes (AUTHSVC_ACTIVITY_INTERVAL), and less than any timeout.
GUARD = timedelta(seconds=45)
MAX_INTERVAL = GUARD.total_seconds() / 3
SHORTEST_TIMEOUT = timedelta(minutes=1)


class Activity:
    """`last` is what this worker knows, `recorded` the least that the database knows. Changes with use."""

    __slots__ = ("_is_over", "_recorded", "idle_timeout", "last")

    def __init__(self, last: datetime, idle_timeout: timedelta) -> None:
        self.last = last
        self.idle_timeout = idle_timeout
        self._recorded = last
        self._is_over = False

    @property
    def idle_end(self) -> datetime:
        """When the session ends for want of activity."""
        return self.last + self.idle_timeout

    def is_idle(self, now: datetime) -> bool:
        """Say whether the timeout is over, by what this worker knows."""
        return self._is_over or now >= self.last + self.idle_timeout

    def is_certain(self, now: datetime) -> bool:
        """Say whether that can be said without the database."""
        return self._is_over or now < self._recorded + self.idle_timeout - GUARD

    def note(self, now: datetime) -> None:
        """Take a use, which is going to be written."""
        if now > self.last:
            self.last = now

    def learn(self, recorded: datetime) -> None:
        """Take the last activity that the database knows."""
        self._recorded = max(recorded, self._recorded)
        self.last = max(recorded, self.last)

    def end(self) -> None:
        """Take it that the database says so: nobody answers for the session any more."""
        self._is_over = True
