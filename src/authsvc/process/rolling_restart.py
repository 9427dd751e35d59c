"""A rolling restart: each worker is replaced by a new one, one after the other, and no call is lost.

Mechanism: the old worker drains when the new one is ready, and the next one follows when the old one has
ended.

Failure: it stops at the first new worker that fails; the workers that are not replaced yet continue to serve.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence

from authsvc.process.signals import Signals
from authsvc.process.slots import Slot, Worker

_log = logging.getLogger(__name__)


class RollingRestart:
    """The state of a rolling restart, between and during restarts."""

    def __init__(self, slots: Sequence[Slot], fork: Callable[[int], Worker]) -> None:
        """Take the slots, and `fork`, which starts a worker for the slot of a number or raises OSError."""
        self._slots = slots
        self._fork = fork
        self._waiting: deque[Worker] = deque()  # workers to be replaced
        self._starting: Worker | None = None  # the new worker
        self._draining: Worker | None = None  # the old worker, after the new one was ready

    @property
    def under_way(self) -> bool:
        """Whether a worker is being replaced, or is to be."""
        return bool(self._waiting or self._starting or self._draining)

    def advance(self, signals: Signals) -> None:
        """Take the next step when the last one is done; begin when a signal asked for a restart."""
        if self._starting is not None or self._draining is not None:
            return
        while self._waiting:
            old = self._waiting[0]
            if self._slots[old.slot].worker is old:
                self._replace(old)
                return
            self._waiting.popleft()  # it was replaced, or has ended
            if not self._waiting:
                _log.info("the rolling restart is done")
        if signals.restart:
            signals.restart = False
            self._waiting.extend(slot.worker for slot in self._slots if slot.worker is not None)
            _log.info("a rolling restart of %d workers begins", len(self._waiting))
            self.advance(signals)

    def cancel(self) -> None:
        """Replace no more workers."""
        self._waiting.clear()

    def note_ready(self, worker: Worker) -> bool:
        """Put the new worker into its slot and have the old one drain; return False for any other worker."""
        if worker is not self._starting:
            return False
        slot = self._slots[worker.slot]
        self._draining, self._starting = slot.worker, None
        slot.worker = worker
        if self._draining is not None:
            self._draining.child.stop()
        return True

    def note_stopped(self, worker: Worker) -> None:
        """Let the restart continue when the worker that drains has ended; ignore any other worker."""
        if worker is self._draining:
            self._draining = None

    def note_failed(self, worker: Worker, cause: str) -> bool:
        """Stop the restart when its new worker has ended; return False for any other worker."""
        if worker is not self._starting:
            return False
        self._starting = None
        self._waiting.clear()
        _log.error(
            "the rolling restart has stopped, and the old workers continue to serve: "
            "the new worker %d has ended: %s",
            worker.slot,
            cause,
        )
        return True

    def take_new_worker(self, slot: int) -> Worker | None:
        """Return the new worker for a slot, if one is starting; it then is a worker like any other."""
        if self._starting is None or self._starting.slot != slot:
            return None
        worker, self._starting = self._starting, None
        return worker

    def _replace(self, old: Worker) -> None:
        try:
            self._starting = self._fork(old.slot)
        except OSError as error:
            self._waiting.clear()
            _log.error("the rolling restart has stopped: worker %d cannot be started: %s", old.slot, error)
