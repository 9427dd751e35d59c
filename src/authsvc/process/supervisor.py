"""The supervisor: starts the workers, replaces those that die, restarts and stops all in good order.

Mechanism: one process with one thread and no event loop, so that it can fork whenever it has to. It imports
what a worker needs, and a worker starts in the time that the database takes; a rolling restart brings new
processes, and no new code. The kernel spreads connections over the workers, which share the port by
SO_REUSEPORT; the supervisor holds the port, and takes none. Signals and reports wake it; all that it knows of
a worker is what the worker reports.

Bound: a worker that is not ready after a minute, or has not ended 15 s after its grace, is killed. One that
dies again and again is started every five seconds. When the supervisor is gone, its children end.

Failure: at the first start one worker that fails ends them all, and StartError has its words. Later the
others serve on. A rolling restart stops at the first new worker that fails, and its predecessor goes on.
"""

import gc
import logging
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from uuid import UUID

from pydantic import SecretStr

from authsvc.config.settings import ConfigError, Settings
from authsvc.net import port
from authsvc.net.listen_address import ListenAddress
from authsvc.net.open_files import raise_limit
from authsvc.process import worker
from authsvc.process.child import Child, Closeable, Context, Pipe
from authsvc.process.signals import Signals
from authsvc.rpc.server import AddressInUseError

_log = logging.getLogger(__name__)

# A start waits for the database, some ten seconds at most.
_READY_WITHIN = 60.0
# After the grace last uses are written and connections closed, which may wait for the database.
_GONE_WITHIN = 15.0
# PostgreSQL is asked to stop ever less kindly, for 40 s.
_DATABASE_GONE_WITHIN = 45.0
# Who served this long did not die of its start.
_SERVED_WELL = 10.0
_MIN_WAIT, _MAX_WAIT = 0.1, 5.0
# A worker may register anew while it lives; what it gave up long ago is gone by itself.
_IDS_KEPT = 16
_NEVER = float("inf")


class StartError(Exception):
    """A child could not start, or all had to stop because the database did; the message is for people."""


class _Phase(Enum):
    DATABASE = auto()
    STARTING = auto()
    SERVING = auto()
    STOPPING = auto()


@dataclass(eq=False)
class _Worker:
    slot: int
    child: Child
    predecessors: frozenset[UUID]
    deadline: float  # by when it is ready or, once it is stopping, gone
    ready_at: float = _NEVER
    stopping: bool = False
    failure: str = ""
    ids: deque[UUID] = field(default_factory=lambda: deque(maxlen=_IDS_KEPT))


@dataclass
class _Slot:
    """A worker's place: who serves in it, or when the next one starts."""

    worker: _Worker | None = None
    start_at: float = _NEVER
    wait: float = 0

    def vacate(self) -> float:
        """Say in how many seconds the next worker starts: soon, and ever later while they die young."""
        now = time.monotonic()
        if self.worker is not None and now - self.worker.ready_at > _SERVED_WELL:
            self.wait = 0
        wait, self.worker, self.start_at = self.wait, None, now + self.wait
        self.wait = min(max(_MIN_WAIT, 2 * self.wait), _MAX_WAIT)
        return wait


class Supervisor:
    """Runs the workers, and the database of `authsvc dev` before and after them."""

    def __init__(
        self, settings: Settings, *, announce: Callable[[int, str], None], database: Context | None = None
    ) -> None:
        """Take what to run.

        `announce` is called once, when all workers serve, with their port and what the
        database `minted`. The `database` reports that, if anything, and is ready with its
        URL.
        """
        self._settings = settings
        self._announce = announce
        self._database_context = database
        self._database: Child | None = None
        self._database_deadline = _NEVER
        self._database_stopping = False
        self._database_failure = ""
        self._minted = ""
        self._slots = [_Slot() for _ in range(settings.workers)]
        self._workers: list[_Worker] = []
        self._orphaned: set[UUID] = set()  # what workers registered that are gone
        # Of a rolling restart: who is to be replaced, the new one that starts, the old one that drains.
        self._to_replace: deque[_Worker] = deque()
        self._fresh: _Worker | None = None
        self._leaving: _Worker | None = None
        self._phase = _Phase.DATABASE
        self._fault = ""
        self._signals = Signals()
        self._stops_heeded = 0
        self._lifeline = Pipe()
        self._held: list[socket.socket] = []

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, and return the exit code.

        Raises AddressInUseError or ConfigError when a port is not to be had, and
        StartError.
        """
        with ExitStack() as stack:
            stack.callback(self._lifeline.close)
            stack.enter_context(self._signals)
            raise_limit()
            self._hold_ports(stack)
            # A child's collector passes over what is here now, so its memory stays shared.
            gc.freeze()
            if self._database_context is None:
                self._start_workers()
            else:
                self._start_database(self._database_context)
            while self._phase is not _Phase.STOPPING or self._workers or self._database is not None:
                self._wait()
                self._hear()
                self._heed_signals()
                self._keep_time()
                self._go_on()
        if self._fault:
            raise StartError(self._fault)
        return 128 + self._signals.stops[-1] if self._stops_heeded > 1 else 0

    def _hold_ports(self, stack: ExitStack) -> None:
        settings = self._settings
        try:
            self._held.append(stack.enter_context(port.hold(settings.listen)))
        except OSError as error:
            raise AddressInUseError(settings.listen, error) from error
        number = self._held[0].getsockname()[1]
        self._settings = settings.model_copy(update={"listen": settings.listen.with_port(number)})
        if settings.http_listen is not None:
            self._hold_http(stack, settings.http_listen)
        if settings.metrics_listen is None or settings.metrics_listen.port == 0:
            return
        for slot in range(settings.workers):
            address = settings.metrics_listen.in_slot(slot)
            try:
                self._held.append(stack.enter_context(port.hold(address)))
            except OSError as error:
                raise ConfigError(
                    f"AUTHSVC_METRICS_LISTEN: cannot listen at {address}: {error.strerror}"
                    + (f" (worker {slot} has the {slot}. port after the first)" if slot else "")
                ) from error

    def _hold_http(self, stack: ExitStack, listen: ListenAddress) -> None:
        try:
            held = stack.enter_context(port.hold(listen))
        except OSError as error:
            raise ConfigError(
                f"AUTHSVC_HTTP_LISTEN: cannot listen at {listen}: {error.strerror or error}"
            ) from error
        self._held.append(held)
        listen = listen.with_port(held.getsockname()[1])
        self._settings = self._settings.model_copy(update={"http_listen": listen})
        _log.info("the check over HTTP is at %s/check", listen)

    # What happens.

    def _wait(self) -> None:
        """Wait for a signal, a report, or the next point in time."""
        times = [self._database_deadline, *(one.deadline for one in self._workers)]
        if self._phase is _Phase.SERVING:
            times += [slot.start_at for slot in self._slots]
        soonest = min(times)
        with selectors.PollSelector() as selector:
            selector.register(self._signals, selectors.EVENT_READ)
            for child in self._children():
                if not child.closed:
                    selector.register(child, selectors.EVENT_READ)
            selector.select(None if soonest == _NEVER else max(0.0, soonest - time.monotonic()))
        self._signals.rest()

    def _hear(self) -> None:
        """Take the reports, and notice who has ended; what it reported comes first."""
        if self._database is not None:
            end = self._database.end()
            for word, text in self._database.reports():
                self._database_told(word, text)
            if end:
                self._database_lost(end)
        for one in tuple(self._workers):
            end = one.child.end()
            for word, text in one.child.reports():
                self._worker_told(one, word, text)
            if end:
                one.child.close()
                self._workers.remove(one)
                self._orphaned.update(one.ids)
                self._worker_lost(one, f"{one.failure} ({end})" if one.failure else end)

    def _heed_signals(self) -> None:
        asked = len(self._signals.stops)
        if asked and not self._stops_heeded:
            _log.info("stopping")
            self._stop()
        if asked > max(1, self._stops_heeded):
            # Whoever asks again has no patience with what is still there.
            for child in [one.child for one in self._workers] or self._children():
                child.send(signal.SIGKILL)
        self._stops_heeded = asked

    def _keep_time(self) -> None:
        """Kill what has missed its deadline."""
        now = time.monotonic()
        for one in self._workers:
            if one.deadline < now:
                late = "has not ended in time" if one.stopping else "is not ready in time"
                _log.warning("worker %d %s and is killed", one.slot, late)
                one.deadline = _NEVER
                one.child.send(signal.SIGKILL)
        if self._database is not None and self._database_deadline < now:
            _log.warning("the database has not ended in time and is killed")
            self._database_deadline = _NEVER
            self._database.send(signal.SIGKILL)

    def _go_on(self) -> None:
        """Start and stop whatever it is time for."""
        if self._phase is _Phase.STOPPING:
            if self._database is not None and not self._workers and not self._database_stopping:
                self._stop_database()
        elif self._phase is _Phase.SERVING:
            now = time.monotonic()
            for number, slot in enumerate(self._slots):
                if slot.worker is None and slot.start_at <= now:
                    self._fill(number)
            self._roll()

    # Workers.

    def _start_workers(self) -> None:
        self._phase = _Phase.STARTING
        for number in range(len(self._slots)):
            if self._phase is _Phase.STARTING:
                self._fill(number)

    def _fill(self, number: int) -> None:
        """Start the worker of a slot."""
        slot = self._slots[number]
        slot.start_at = _NEVER
        try:
            slot.worker = self._fork(number)
        except OSError as error:
            self._slot_vacant(number, f"cannot be started: {error}")

    def _fork(self, number: int) -> _Worker:
        predecessors = frozenset(self._orphaned)
        child = Child.fork(
            partial(worker.serving, self._settings, number, predecessors),
            lifeline=self._lifeline,
            parents=self._own(),
            patience=self._settings.drain_grace.total_seconds() + _GONE_WITHIN,
            worker=number,
        )
        started = _Worker(number, child, predecessors, time.monotonic() + _READY_WITHIN)
        self._workers.append(started)
        return started

    def _worker_told(self, one: _Worker, word: str, text: str) -> None:
        if word == "registered":
            one.ids.append(UUID(text))
        elif word == "failed":
            one.failure = text
        elif word == "ready" and not one.stopping:
            one.ready_at, one.deadline = time.monotonic(), _NEVER
            # It has removed those of its predecessors from the database when it registered.
            self._orphaned -= one.predecessors
            if one is self._fresh:
                self._relieve(one)
            elif self._phase is _Phase.SERVING:
                _log.info("worker %d serves again", one.slot)
            elif all(slot.worker and slot.worker.ready_at < _NEVER for slot in self._slots):
                self._phase = _Phase.SERVING
                self._announce(int(text), self._minted)
                self._minted = ""

    def _worker_lost(self, one: _Worker, how: str) -> None:
        if one.stopping:
            if one is self._leaving:
                self._leaving = None
            # Who never served had nothing to bring in order.
            if how != "exit code 0" and one.ready_at < _NEVER:
                _log.warning("worker %d did not stop in good order: %s", one.slot, how)
        elif one is self._fresh:
            self._fresh = None
            self._to_replace.clear()
            _log.error(
                "the rolling restart has stopped, and those before serve on: the new worker %d: %s",
                one.slot,
                how,
            )
        else:
            self._slot_vacant(one.slot, f"has ended: {how}", one.failure)

    def _slot_vacant(self, number: int, how: str, failure: str = "") -> None:
        """See to a successor for a worker that nobody wanted to end."""
        slot = self._slots[number]
        if self._phase is not _Phase.SERVING:
            self._stop(failure or f"worker {number} {how}")
        elif self._fresh is not None and self._fresh.slot == number:
            slot.worker, self._fresh = self._fresh, None
            _log.error("worker %d %s; the one that was to replace it is on its way", number, how)
        else:
            wait = slot.vacate()
            _log.error("worker %d %s; another one starts%s", number, how, f" in {wait:g} s" if wait else "")

    # The rolling restart.

    def _roll(self) -> None:
        """Take the next step of a rolling restart, when the one before is done."""
        if self._fresh is not None or self._leaving is not None:
            return
        while self._to_replace:
            old = self._to_replace[0]
            if self._slots[old.slot].worker is not old:
                self._to_replace.popleft()  # it died, or has made way
                if not self._to_replace:
                    _log.info("the rolling restart is done")
                continue
            try:
                self._fresh = self._fork(old.slot)
            except OSError as error:
                self._to_replace.clear()
                _log.error(
                    "the rolling restart has stopped: worker %d cannot be started: %s", old.slot, error
                )
            return
        if self._signals.restart:
            self._signals.restart = False
            self._to_replace.extend(slot.worker for slot in self._slots if slot.worker is not None)
            _log.info("a rolling restart of %d workers begins", len(self._to_replace))
            self._roll()

    def _relieve(self, fresh: _Worker) -> None:
        """Let the old worker go that the fresh one replaces."""
        slot = self._slots[fresh.slot]
        self._leaving, self._fresh = slot.worker, None
        slot.worker = fresh
        if self._leaving is not None:
            self._end(self._leaving)

    # The database.

    def _start_database(self, context: Context) -> None:
        try:
            self._database = Child.fork(
                context, lifeline=self._lifeline, parents=self._own(), patience=_DATABASE_GONE_WITHIN
            )
        except OSError as error:
            self._stop(f"the database cannot be started: {error}")

    def _database_told(self, word: str, text: str) -> None:
        if word == "failed":
            self._database_failure = text
        elif word == "minted":
            self._minted = text
        elif word == "ready" and self._phase is _Phase.DATABASE:
            self._settings = self._settings.model_copy(update={"database_url": SecretStr(text)})
            self._start_workers()

    def _database_lost(self, end: str) -> None:
        if self._database is not None:
            self._database.close()
        self._database, self._database_deadline = None, _NEVER
        if not self._database_stopping:
            self._stop(self._database_failure or f"the process of the database has ended: {end}")
        elif end != "exit code 0":
            _log.warning("the database did not stop in good order: %s", end)

    # The end.

    def _stop(self, fault: str = "") -> None:
        """Have all workers drain; the database follows them. The first fault is the one to tell."""
        if self._phase is not _Phase.STOPPING:
            self._phase, self._fault = _Phase.STOPPING, fault
            self._to_replace.clear()
            for one in self._workers:
                if not one.stopping:
                    self._end(one)

    def _end(self, one: _Worker) -> None:
        one.stopping = True
        one.deadline = time.monotonic() + self._settings.drain_grace.total_seconds() + _GONE_WITHIN
        one.child.send(signal.SIGTERM)

    def _stop_database(self) -> None:
        if self._database is not None:
            self._database_stopping = True
            self._database_deadline = time.monotonic() + _DATABASE_GONE_WITHIN
            self._database.send(signal.SIGTERM)

    def _children(self) -> list[Child]:
        database = [] if self._database is None else [self._database]
        return [*(one.child for one in self._workers), *database]

    def _own(self) -> list[Closeable]:
        """Return what no child may keep: another's pipe would hide its end, a held port would outlive us."""
        return [self._signals, *self._held, *self._children()]
