"""The slots of the workers: which worker serves in each, and when the next one starts after a failure."""

import time
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from authsvc.process.backoff import Backoff
from authsvc.process.child import NEVER, Child

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
    _backoff: Backoff = field(default_factory=Backoff)

    def vacate(self) -> float:
        """Return in how many seconds the next worker starts: 0, or more and more if it failed early."""
        delay = self._backoff.next(NEVER if self.worker is None else self.worker.ready_time)
        self.worker, self.start_time = None, time.monotonic() + delay
        return delay
