"""The children of this process: forked from its one thread, waited for together, killed when they are late.

Mechanism: whoever forks a child reads its reports and its end after each `wait`. A signal, a report or the
next deadline ends the wait. No child keeps what is private to this process: the pipe of another child would
hide that child's end, and a held port would outlive us. As the first process of a container, this process
adopts the orphans of others; it reaps those that have ended.

Bound: a child that is not ready, or has not ended, by its deadline is killed with SIGKILL.

Failure: when this process is gone, the lifeline ends, and so do the children.
"""

import gc
import logging
import os
import selectors
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from authsvc.net.open_files import raise_limit
from authsvc.process.child import NEVER, Child, Closeable, Context, Pipe
from authsvc.process.signals import Signals

_log = logging.getLogger(__name__)

# The process id that adopts orphans.
_FIRST = 1


class Children:
    """The children that are forked within its block, and the signals to this process."""

    def __init__(self) -> None:
        self.signals = Signals()
        self._lifeline = Pipe()
        self._private: list[Closeable] = [self.signals]
        self._living: list[Child] = []

    def __enter__(self) -> Self:
        self.signals.__enter__()
        raise_limit()
        # A child's garbage collector does not touch what exists by now, so its memory stays shared.
        gc.freeze()
        # A look at all that is older stops a worker for as long as 80 ms while a crowd of calls waits. Calls
        # leave no cycles, so it has little to find.
        gc.set_threshold(700, 10, 1000)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.signals.__exit__(kind, error, trace)
        self._lifeline.close()

    def hide(self, resources: Iterable[Closeable]) -> None:
        """Have each child close these resources of this process."""
        self._private.extend(resources)

    def fork(
        self,
        context: Context,
        name: str,
        *,
        max_stop_seconds: float,
        max_start_seconds: float = NEVER,
        **log_context: object,
    ) -> Child:
        """Fork a child that runs the context; raise OSError when the system has no room for it.

        It is killed when it is not ready after `max_start_seconds`, or has not ended
        `max_stop_seconds` after it was stopped or orphaned.
        """
        child = Child.fork(
            context,
            name,
            lifeline=self._lifeline,
            private=[*self._private, *self._living],
            max_stop_seconds=max_stop_seconds,
            **log_context,
        )
        child.deadline = time.monotonic() + max_start_seconds
        self._living.append(child)
        return child

    def wait(self, until: float = NEVER) -> None:
        """Wait for a signal, a report, a deadline, or a point in time in monotonic seconds."""
        soonest = min([until, *(child.deadline for child in self._living)])
        with selectors.PollSelector() as selector:
            selector.register(self.signals, selectors.EVENT_READ)
            for child in self._living:
                for source in (child, child.standard_error):
                    if not source.closed:
                        selector.register(source, selectors.EVENT_READ)
            selector.select(None if soonest == NEVER else max(0.0, soonest - time.monotonic()))
        self.signals.clear()
        for child in self._living:
            child.standard_error.log()
        if os.getpid() == _FIRST:
            self._reap_orphans()

    def kill_late(self) -> None:
        """Kill each child that has missed its deadline."""
        now = time.monotonic()
        for child in self._living:
            if child.deadline < now:
                late = "has not ended in time" if child.stopping else "is not ready in time"
                _log.warning("%s %s and is killed", child.name, late)
                child.deadline = NEVER
                child.send(signal.SIGKILL)

    def remove(self, child: Child) -> None:
        """Forget a child that has ended, when its reports were read."""
        child.standard_error.log()
        child.close()
        self._living.remove(child)

    def _reap_orphans(self) -> None:
        """Reap what others have forked, up to the first process of ours, whose end is looked at elsewhere."""
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if any(child.pid == ended.si_pid for child in self._living):
                    return
                os.waitpid(ended.si_pid, 0)
