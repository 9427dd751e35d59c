"""An auxiliary process: a child that works for the workers of a replica and serves none of their calls.

Mechanism: it is forked before the workers, forked again when it ends, and stopped when all workers have
ended; if it does not outlive them, when they are told to stop. Its supervisor calls `look` whenever a child
has reported or ended, and at `look_time`.

Bound: like a worker that fails again and again, it is started every five seconds. After `stop` it has
`max_stop_seconds` to end, and is killed then.

Failure: its end is logged and stops no worker. How workers do without it is their own matter.
"""

import logging
import signal
import time
from collections.abc import Callable

from authsvc.process.backoff import Backoff
from authsvc.process.child import NEVER, Child, Context
from authsvc.process.children import Children

_log = logging.getLogger(__name__)

# How much later it is looked at again before it is killed for its silence.
_RECHECK_SECONDS = 1.0


class Auxiliary:
    """The process that runs a context, and its successors."""

    def __init__(
        self,
        children: Children,
        name: str,
        context: Context,
        *,
        max_stop_seconds: float,
        max_start_seconds: float = NEVER,
        max_silence_seconds: float = NEVER,
        is_needed: bool = False,
        outlives_workers: bool = True,
        note: Callable[[str, str], None] = lambda word, text: None,
    ) -> None:
        """Take what to run, and its name for the log, for instance `the admin listener`.

        It is killed, and started again, when it is not ready after `max_start_seconds`, or has not reported
        anything for `max_silence_seconds`. If it `is_needed`, the service does not start without it. `note`
        is called with each report that it makes besides `ready`.
        """
        self._children = children
        self._name = name
        self._context = context
        self._max_stop_seconds = max_stop_seconds
        self._max_start_seconds = max_start_seconds
        self._max_silence_seconds = max_silence_seconds
        #: Whether it is needed, and has not been ready yet.
        self.awaited = is_needed
        self.outlives_workers = outlives_workers
        self._note = note
        self._child: Child | None = None
        self._stopping = False
        self._ready_time = NEVER
        self._backoff = Backoff()
        self._silent_time = NEVER
        self._was_silent = False
        #: When it is to be started again, in monotonic seconds.
        self.start_time = NEVER
        #: Why it has never been ready, if it is needed and has ended.
        self.fault = ""

    @property
    def ended(self) -> bool:
        """Whether no process of it is left, and none follows."""
        return self._stopping and self._child is None

    @property
    def look_time(self) -> float:
        """When to look at the latest, in monotonic seconds."""
        return self.start_time if self._child is None else self._silent_time

    def start(self) -> None:
        """Fork it; if the system has no room for it, that is logged and tried again later."""
        self.start_time = self._ready_time = self._silent_time = NEVER
        try:
            self._child = self._children.fork(
                self._context,
                self._name,
                max_start_seconds=self._max_start_seconds,
                max_stop_seconds=self._max_stop_seconds,
                process=self._name,
            )
        except OSError as error:
            if self.awaited:
                self.fault = f"{self._name} cannot be started: {error}"
            else:
                self._plan(f"cannot be started: {error}")

    def look(self) -> None:
        """Read its reports, and start it again if it has ended and is not to stop."""
        if self._child is not None:
            end = self._child.end()
            for word, text in self._child.reports():
                if word != "ready":
                    self._note(word, text)
                elif not self._child.stopping:
                    self._ready_time, self.awaited = time.monotonic(), False
                    self._child.deadline = NEVER
                if self._ready_time < NEVER and not self._child.stopping:
                    self._silent_time, self._was_silent = time.monotonic() + self._max_silence_seconds, False
            if end:
                self._children.remove(self._child)
                self._note_ended(self._child, end)
            elif self._silent_time <= time.monotonic():
                self._note_silent(self._child)
        if self.start_time <= time.monotonic():
            self.start()

    def stop(self) -> None:
        """Tell it to stop, once; nothing follows it. From then on only its deadline counts."""
        self._stopping, self.start_time, self._silent_time = True, NEVER, NEVER
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """Kill it; nothing follows it."""
        self._stopping, self.start_time = True, NEVER
        if self._child is not None:
            self._child.send(signal.SIGKILL)

    def _note_silent(self, child: Child) -> None:
        """Kill it at the second look: after the first, this process itself may have been stopped."""
        if self._was_silent:
            _log.error("%s has not reported for %g s and is killed", self._name, self._max_silence_seconds)
            child.send(signal.SIGKILL)
        self._silent_time, self._was_silent = time.monotonic() + _RECHECK_SECONDS, True

    def _note_ended(self, child: Child, end: str) -> None:
        self._child = None
        cause = f"{child.failure} ({end})" if child.failure else end
        if self.awaited:
            self.fault = child.failure or f"{self._name} has ended: {end}"
        elif not self._stopping:
            self._plan(f"has ended: {cause}")
        elif end != "exit code 0":
            _log.warning("%s did not stop cleanly: %s", self._name, cause)

    def _plan(self, reason: str) -> None:
        delay = self._backoff.next(self._ready_time)
        self.start_time = time.monotonic() + delay
        _log.error("%s %s; it is started again%s", self._name, reason, f" in {delay:g} s" if delay else "")
