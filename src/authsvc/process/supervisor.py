"""The supervisor: starts the workers, replaces those that fail, restarts and stops them in order.

Mechanism: one process with one thread and no event loop, so that it can fork at any time. It imports what a
worker needs, so a worker starts in the time that the database takes; a rolling restart brings new processes,
but no new code. The kernel spreads connections over the workers, which share the port by SO_REUSEPORT; the
supervisor holds the port and accepts none. Signals and reports wake it; all that it knows of a worker is what
the worker reports.

At a stop the workers serve on for AUTHSVC_DRAIN_DELAY, not ready any more for probes, before they drain.

Bound: a worker that is not ready after a minute and its wait for the database, or has not ended 15 s after
its grace, is killed. One that fails again and again is started every five seconds. When the supervisor is
gone, its children end. A second signal to stop ends the delay at once; the next one kills the workers.

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

from authsvc.config.duration import format_duration
from authsvc.config.settings import Settings
from authsvc.model.errors import OperatorError
from authsvc.net.lent_leases import LentLeases
from authsvc.net.private_listener import PrivateListener
from authsvc.net.worker_loads import worker_loads
from authsvc.process import worker as worker_process
from authsvc.process.auxiliaries import Auxiliaries, max_stop_seconds
from authsvc.process.auxiliary import Auxiliary
from authsvc.process.child import NEVER
from authsvc.process.children import Children
from authsvc.process.ports import held_ports
from authsvc.process.rolling_restart import RollingRestart
from authsvc.process.service_manager import ServiceManager, State
from authsvc.process.shared import Shared
from authsvc.process.slots import Slot, Worker

_log = logging.getLogger(__name__)

# A start waits for the database, some ten seconds at most.
_MAX_START_SECONDS = 60.0
# After the drain grace. Last uses are written and connections closed, which may wait for the database.
_MAX_CLEANUP_SECONDS = 15.0
# For processes that were killed to end.
_MAX_KILL_SECONDS = 5.0


class StartError(OperatorError):
    """A child could not start, or all had to stop because the database did."""


def serve(settings: Settings, announce: Callable[[int], None]) -> int:
    """Run the workers until SIGTERM or SIGINT, and return the exit code.

    `announce` is called once, when all workers serve, with their port. Raises AddressInUseError or
    ConfigError when a port cannot be held, and StartError when a worker cannot start.
    """
    with Children() as children, held_ports(settings, children) as settings:
        manager = ServiceManager.of_environment()
        if fault := Supervisor(settings, children, announce=announce, manager=manager).run():
            raise StartError(fault)
        return children.signals.exit_code


class _Phase(Enum):
    STARTING = auto()
    SERVING = auto()
    LEAVING = auto()  # serves on, and is not ready any more
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
        manager: ServiceManager | None = None,
    ) -> None:
        """Take what to run; the `auxiliaries` start before the workers and stop after them.

        `announce` is called once, when all workers serve, with their port. `check` is
        called whenever a child has reported or ended; it returns why all workers have to
        stop, or an empty string. The `manager` is told what happens.
        """
        self._settings = settings
        self._children = children
        self._announce = announce
        self._check = check
        self._shared = Shared(
            follower=PrivateListener() if settings.workers > 1 else None,
            admin=PrivateListener() if settings.admin_listen is not None else None,
            loads=worker_loads(settings.workers),
            lent=LentLeases(settings.workers),
        )
        self._auxiliaries = Auxiliaries.of(settings, children, self._shared, self._pids, auxiliaries)
        self._manager = manager or ServiceManager()
        self._slots = [Slot(number) for number in range(settings.workers)]
        self._workers: list[Worker] = []
        self._orphaned: set[UUID] = set()  # ids of workers that have ended
        self._restart = RollingRestart(self._slots, self._fork)
        self._phase = _Phase.STARTING
        self._drain_time = NEVER  # when the workers begin to drain, in monotonic seconds
        self._port = 0
        self._fault = ""

    def run(self) -> str:
        """Run until all workers have stopped; return why they had to, or an empty string after a signal."""
        self._auxiliaries.start()
        for slot in self._slots:
            if self._phase is _Phase.STARTING:
                self._start(slot)
        while True:
            self._read_reports()
            self._announce_start()
            self._children.signals.handle_stops(stop=self._leave, hurry=self._hurry)
            if self._drain_time <= time.monotonic() or (self._phase is _Phase.LEAVING and not self._workers):
                self._stop()
            self._children.kill_late()
            if self._phase is _Phase.STOPPING and not self._workers and self._auxiliaries.stop():
                return self._fault
            self._start_and_restart()
            self._tell_manager()
            self._children.wait(self._next_step())

    def _read_reports(self) -> None:
        """Read the reports, then handle the ends of workers: what a worker reported comes first."""
        if fault := self._check():
            self._stop(fault)
        if fault := self._auxiliaries.look():
            self._stop(fault)
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
                # Its successor removes those, too, that it could not remove yet.
                self._orphaned.update(worker.ids, worker.predecessors)
                if self._shared.loads is not None:
                    self._shared.loads.clear(worker.child.pid)
                self._shared.lent.clear(worker.child.pid)
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

    def _next_step(self) -> float:
        times = [self._drain_time, self._auxiliaries.look_time]
        if self._phase is _Phase.SERVING:
            times += [slot.start_time for slot in self._slots]
        return min(times)

    def _start(self, slot: Slot) -> None:
        slot.start_time = NEVER
        try:
            slot.worker = self._fork(slot.number)
        except OSError as error:
            self._refill(slot, f"cannot be started: {error}")

    def _fork(self, number: int) -> Worker:
        predecessors = frozenset(self._orphaned)
        child = self._children.fork(
            partial(worker_process.serving, self._settings, number, self._shared, predecessors),
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
        # It removes its predecessors from the database, as soon as nobody may answer under them.
        self._orphaned -= worker.predecessors
        if self._restart.note_ready(worker):
            return
        if self._phase is _Phase.SERVING:
            _log.info("worker %d serves again", worker.slot)
        self._port = port

    def _announce_start(self) -> None:
        """Announce the port once all serve and what they need is ready."""
        ready = all(slot.worker is not None and slot.worker.ready for slot in self._slots)
        if self._phase is _Phase.STARTING and ready and not self._auxiliaries.awaited:
            self._phase = _Phase.SERVING
            self._announce(self._port)

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
        if self._phase is _Phase.LEAVING:
            slot.worker = None
            _log.error("worker %d %s; no other one starts, since the service stops", slot.number, reason)
        elif self._phase is not _Phase.SERVING:
            self._stop(failure or f"worker {slot.number} {reason}")
        elif new := self._restart.take_new_worker(slot.number):
            slot.worker = new
            _log.error("worker %d %s; its replacement is starting already", slot.number, reason)
        else:
            delay = slot.vacate()
            when = f" in {delay:g} s" if delay else ""
            _log.error("worker %d %s; another one starts%s", slot.number, reason, when)

    def _leave(self) -> None:
        """Have the workers serve on for the delay, if there is one, and then drain."""
        delay = self._settings.drain_delay
        if self._phase is not _Phase.SERVING or not delay:
            self._stop()
            return
        self._phase, self._drain_time = _Phase.LEAVING, time.monotonic() + delay.total_seconds()
        self._restart.cancel()
        for worker in self._workers:
            if worker.ready:
                worker.child.send(worker_process.NOT_READY)
            else:
                worker.child.stop()
        _log.info("no longer ready; calls are accepted for another %s", format_duration(delay))

    def _stop(self, fault: str = "") -> None:
        """Have all workers drain. The first fault is the one that is reported."""
        if self._phase is not _Phase.STOPPING:
            self._phase, self._fault, self._drain_time = _Phase.STOPPING, fault, NEVER
            self._restart.cancel()
            self._auxiliaries.stop_with_workers()
            for worker in self._workers:
                worker.child.stop()

    def _hurry(self) -> bool:
        """End the delay before the drain; if it has ended, kill all, and return True."""
        if self._phase is _Phase.LEAVING:
            self._stop()
            return False
        for worker in self._workers:
            worker.child.send(signal.SIGKILL)
        self._auxiliaries.kill()
        return True

    @property
    def _max_leave_seconds(self) -> float:
        """How long a stop may take, after which all that is left was killed."""
        given = self._settings.drain_delay + self._settings.drain_grace
        auxiliaries = max_stop_seconds(self._settings)
        return given.total_seconds() + _MAX_CLEANUP_SECONDS + auxiliaries + _MAX_KILL_SECONDS

    def _tell_manager(self) -> None:
        serving = sum(slot.worker is not None and slot.worker.ready for slot in self._slots)
        number = f"{serving} of {len(self._slots)} workers serve"
        match self._phase:
            case _Phase.STARTING:
                self._manager.tell(State.STARTING, "starting")
            case _Phase.SERVING if self._restart.under_way:
                self._manager.tell(State.RELOADING, f"{number}; they are replaced one after the other")
            case _Phase.SERVING:
                self._manager.tell(State.READY, number)
            case _Phase.LEAVING:
                self._manager.tell(State.STOPPING, f"{number}, no longer ready", self._max_leave_seconds)
            case _Phase.STOPPING:
                self._manager.tell(State.STOPPING, "draining", self._max_leave_seconds)
