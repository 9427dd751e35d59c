"""Requests that signals make of the supervisor: to stop, how often, or to restart.

The handlers only record the signals. A pipe becomes readable at each one, so that it wakes a process that
waits for other things as well. SIGCHLD has no other effect.
"""

import logging
import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from authsvc.process.child import Pipe

_log = logging.getLogger(__name__)


class Signals:
    """Records SIGTERM, SIGINT, SIGHUP and SIGCHLD within its block; for the main thread only."""

    def __init__(self) -> None:
        self.restart = False
        self._stops: list[signal.Signals] = []
        self._handled_stops = 0
        self._forced = False
        self._wake = Pipe()
        for end in (self._wake.reader, self._wake.writer):
            os.set_blocking(end.fileno(), False)
        self._had_terminal = _has_terminal()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # A full pipe wakes as well as one with room for one more byte.
        signal.set_wakeup_fd(self._wake.writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            # nohup has SIGHUP ignored, and so it stays.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.close()

    @property
    def exit_code(self) -> int:
        """0, or 128 and the number of the last signal when further ones ended processes by force."""
        return 128 + self._stops[-1] if self._forced else 0

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable at a signal."""
        return self._wake.reader.fileno()

    def clear(self) -> None:
        """Be readable at the next signal, and no longer because of earlier ones."""
        self._wake.reader.read(65536)

    def close(self) -> None:
        """Close the pipe, as a child does."""
        self._wake.close()

    def handle_stops(self, *, stop: Callable[[], None], hurry: Callable[[], bool]) -> None:
        """Call `stop` at the first request to stop, and `hurry` at further ones, since the last call.

        `hurry` returns whether it has ended processes by force.
        """
        before, self._handled_stops = self._handled_stops, len(self._stops)
        if self._handled_stops and not before:
            _log.info("stopping")
            stop()
        if self._handled_stops > max(1, before):
            self._forced |= hurry()

    def _record(self, number: int, frame: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stops.append(signal.Signals(number))
        elif number == signal.SIGHUP:
            # The window in which we ran was closed; nobody would know of a service that runs on.
            if self._had_terminal and not _has_terminal():
                self._stops.append(signal.SIGHUP)
            else:
                self.restart = True


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
