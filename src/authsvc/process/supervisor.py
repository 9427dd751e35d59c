"""The supervisor: starts the workers, replaces those that fail, restarts and stops them in order.

Mechanism: one process with one thread and no event loop, so that it can fork at any time. It imports what a
worker needs, so a worker starts in the time that the database takes; a rolling restart brings new processes,
but no new code. The kernel spreads connections over the workers, which share the port by SO_REUSEPORT; the
supervisor holds the port and accepts none. Signals and reports wake it; all that it knows of a worker is what
the worker reports.

Bound: a worker that is not ready after a minute and its wait for the database, or has not ended 15 s after
its grace, is killed. One that fails again and again is started every five seconds. When the supervisor is
gone, its children end.

Failure: at the first start one worker that fails ends them all, and StartError has its message. Later the
others continue to serve. A rolling restart stops at the first new worker that fails.
"""

import logging
import signal
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from uuid import UUID

from authsvc.config.settings import Settings
from authsvc.model.errors import OperatorError
from authsvc.net.handover import Handover
from authsvc.process import follower as follower_process
from authsvc.process import worker as worker_process
from authsvc.process.auxiliary import Auxiliary
from authsvc.process.child import NEVER
from authsvc.process.children import Children
from authsvc.process.ports import held_ports
from authsvc.process.rolling_restart import RollingRestart
from authsvc.process.slots import Slot, Worker

_log = logging.getLogger(__name__)

# A start waits for the database, some ten seconds at most.
_MAX_START_SECONDS = 60.0
# After the drain grace. Last uses are written and connections closed, which may wait for the database.
_MAX_CLEANUP_SECONDS = 15.0


class StartError(OperatorError):
    """A child could not start, or all had to stop because the database did."""


def serve(settings: Settings, announce: Callable[[int], None]) -> int:
    """Run the workers until SIGTERM or SIGINT, and return the exit code.

    `announce` is called once, when all workers serve, with their port. Raises AddressInUseError or
    ConfigError when a port cannot be held, and StartError when a worker cannot start.
    """
    with Children() as children, held_ports(settings, children) as settings:
        if fault := Supervisor(settings, children, announce=announce).run():
            raise StartError(fault)
        return children.signals.exit_code


class _Phase(Enum):
    STARTING = auto()
    SERVING = auto()
    STOPPING = auto()


class Supervisor:
    """Runs the workers from the first start until all have stopped."""

    def __init__(
        self,
        settings: Settings,
        children: Children,
        *,
        announce: Callable[[int], None],
        check: Callable[[], str] = lambda: "",
        auxiliaries: Sequence[Auxiliary] = (),
    ) -> None:
        """Take what to run; the `auxiliaries` start before the workers and stop after them.

        `announce` is called once, when all workers serve, with their port. `check` is
        called whenever a child has reported or ended; it returns why all workers have to
        stop, or an empty string.
        """
        self._settings = settings
        self._children = children
        self._announce = announce
        self._check = check
        self._handover = Handover() if settings.workers > 1 else None
        if self._handover is not None:
            auxiliaries = [
                follower_process.auxiliary(settings, children, self._handover, self._pids),
                *auxiliaries,
            ]
        self._auxiliaries = auxiliaries
        self._slots = [Slot(number) for number in range(settings.workers)]
        self._workers: list[Worker] = []
        self._orphaned: set[UUID] = set()  # ids of workers that have ended
        self._restart = RollingRestart(self._slots, self._fork)
        self._phase = _Phase.STARTING
        self._fault = ""

    def run(self) -> str:
        """Run until all workers have stopped; return why they had to, or an empty string after a signal."""
        for auxiliary in self._auxiliaries:
            auxiliary.start()
        for slot in self._slots:
            if self._phase is _Phase.STARTING:
                self._start(slot)
        while True:
            self._read_reports()
            self._children.signals.handle_stops(stop=self._stop, kill=self._kill)
            self._children.kill_late()
            if self._phase is _Phase.STOPPING and not self._workers and self._stop_auxiliaries():
                return self._fault
            self._start_and_restart()
            self._children.wait(self._next_start())

    def _read_reports(self) -> None:
        """Read the reports, then handle the ends of workers: what a worker reported comes first."""
        if fault := self._check():
            self._stop(fault)
        for auxiliary in self._auxiliaries:
            auxiliary.look()
            if auxiliary.fault:
                self._stop(auxiliary.fault)
        for worker in tuple(self._workers):
            end = worker.child.end()
            for word, text in worker.child.reports():
                if word == "registered":
                    worker.ids.append(UUID(text))
                elif word == "ready" and not worker.child.stopping:
                    self._note_ready(worker, int(text))
            if end:
                self._children.remove(worker.child)
                self._workers.remove(worker)
                self._orphaned.update(worker.ids)
                self._note_ended(worker, end)

    def _start_and_restart(self) -> None:
        if self._phase is not _Phase.SERVING:
            return
        now = time.monotonic()
        for slot in self._slots:
            if slot.worker is None and slot.start_time <= now:
                self._start(slot)
        self._restart.advance(self._children.signals)

    def _pids(self) -> list[int]:
        return [worker.child.pid for worker in self._workers]

    def _next_start(self) -> float:
        starts = [auxiliary.start_time for auxiliary in self._auxiliaries]
        if self._phase is _Phase.SERVING:
            starts += [slot.start_time for slot in self._slots]
        return min(starts, default=NEVER)

    def _start(self, slot: Slot) -> None:
        slot.start_time = NEVER
        try:
            slot.worker = self._fork(slot.number)
        except OSError as error:
            self._refill(slot, f"cannot be started: {error}")

    def _fork(self, number: int) -> Worker:
        predecessors = frozenset(self._orphaned)
        child = self._children.fork(
            partial(worker_process.serving, self._settings, number, predecessors, self._handover),
            f"worker {number}",
            max_start_seconds=_MAX_START_SECONDS + self._settings.wait_for_database.total_seconds(),
            max_stop_seconds=self._settings.drain_grace.total_seconds() + _MAX_CLEANUP_SECONDS,
            worker=number,
        )
        worker = Worker(number, child, predecessors)
        self._workers.append(worker)
        return worker

    def _note_ready(self, worker: Worker, port: int) -> None:
        worker.ready_time, worker.child.deadline = time.monotonic(), NEVER
        # It has removed its predecessors from the database when it registered.
        self._orphaned -= worker.predecessors
        if self._restart.note_ready(worker):
            return
        if self._phase is _Phase.SERVING:
            _log.info("worker %d serves again", worker.slot)
        elif all(slot.worker is not None and slot.worker.ready for slot in self._slots):
            self._phase = _Phase.SERVING
            self._announce(port)

    def _note_ended(self, worker: Worker, end: str) -> None:
        failure = worker.child.failure
        cause = f"{failure} ({end})" if failure else end
        if worker.child.stopping:
            self._restart.note_stopped(worker)
            # A worker that never served had nothing to finish.
            if end != "exit code 0" and worker.ready:
                _log.warning("worker %d did not stop cleanly: %s", worker.slot, cause)
        elif not self._restart.note_failed(worker, cause):
            self._refill(self._slots[worker.slot], f"has ended: {cause}", failure)

    def _refill(self, slot: Slot, reason: str, failure: str = "") -> None:
        """Plan the next worker for the slot of one that failed; during the first start, stop all instead."""
        if self._phase is not _Phase.SERVING:
            self._stop(failure or f"worker {slot.number} {reason}")
        elif new := self._restart.take_new_worker(slot.number):
            slot.worker = new
            _log.error("worker %d %s; its replacement is starting already", slot.number, reason)
        else:
            delay = slot.vacate()
            when = f" in {delay:g} s" if delay else ""
            _log.error("worker %d %s; another one starts%s", slot.number, reason, when)

    def _stop(self, fault: str = "") -> None:
        """Have all workers drain. The first fault is the one that is reported."""
        if self._phase is not _Phase.STOPPING:
            self._phase, self._fault = _Phase.STOPPING, fault
            self._restart.cancel()
            for worker in self._workers:
                worker.child.stop()

    def _stop_auxiliaries(self) -> bool:
        """Stop what helped the workers, which have ended; return whether it has ended as well."""
        for auxiliary in self._auxiliaries:
            auxiliary.stop()
        return all(auxiliary.ended for auxiliary in self._auxiliaries)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.child.send(signal.SIGKILL)
        for auxiliary in self._auxiliaries:
            auxiliary.kill()
