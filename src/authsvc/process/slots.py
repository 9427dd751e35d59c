"""The slots of the workers: which worker serves in each, and when the next one starts after a failure."""

import time
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from authsvc.process.child import NEVER, Child

# A worker that served this long did not fail at its start.
_STABLE_SECONDS = 10.0
_MIN_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.1, 5.0
# A worker may register again while it lives. Registrations that it gave up long ago expire by themselves.
_MAX_IDS = 16


@dataclass(eq=False)
class Worker:
    """A worker as its supervisor sees it.

    `predecessors` are ids that it removes from the database when it registers; `ids`
    are the latest that it registered under itself. `ready_time` is in monotonic seconds.
    """

    slot: int
    child: Child
    predecessors: frozenset[UUID]
    ready_time: float = NEVER
    ids: deque[UUID] = field(default_factory=lambda: deque(maxlen=_MAX_IDS))

    @property
    def ready(self) -> bool:
        """Whether it has been ready to serve."""
        return self.ready_time < NEVER


@dataclass
class Slot:
    """The place of one worker: the worker in it, or when the next one starts, in monotonic seconds."""

    number: int
    worker: Worker | None = None
    start_time: float = NEVER
    _delay_seconds: float = 0

    def vacate(self) -> float:
        """Return in how many seconds the next worker starts: 0, or more and more if it failed early."""
        now = time.monotonic()
        if self.worker is not None and now - self.worker.ready_time > _STABLE_SECONDS:
            self._delay_seconds = 0
        delay, self.worker, self.start_time = self._delay_seconds, None, now + self._delay_seconds
        self._delay_seconds = min(max(_MIN_DELAY_SECONDS, 2 * delay), _MAX_DELAY_SECONDS)
        return delay
