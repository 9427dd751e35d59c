"""What signals have asked of the supervisor: to stop, how often, or to restart.

The handlers only take notes; a pipe becomes readable at each signal, so that whoever waits for other things
as well wakes up. SIGCHLD has no other effect than that.
"""

import os
import signal
from types import FrameType, TracebackType
from typing import Any, Self

from authsvc.process.child import Pipe


class Signals:
    """Takes notes of SIGTERM, SIGINT, SIGHUP and SIGCHLD within its block; the main thread's."""

    def __init__(self) -> None:
        self.stops: list[signal.Signals] = []
        self.restart = False
        self._wake = Pipe()
        for end in (self._wake.reader, self._wake.writer):
            os.set_blocking(end.fileno(), False)
        self._had_terminal = _has_terminal()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # A full pipe wakes as well as one more byte in it.
        signal.set_wakeup_fd(self._wake.writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            # Under nohup the end of the terminal is to mean nothing.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.close()

    def fileno(self) -> int:
        """Return what becomes readable at a signal."""
        return self._wake.reader.fileno()

    def rest(self) -> None:
        """Be woken by the next signal, and not by those before."""
        self._wake.reader.read(65536)

    def close(self) -> None:
        """Close the pipe, as a child does."""
        self._wake.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self.stops.append(signal.Signals(number))
        elif number == signal.SIGHUP:
            # Somebody closed the window in which we ran; nobody would know of a service that goes on.
            if self._had_terminal and not _has_terminal():
                self.stops.append(signal.SIGHUP)
            else:
                self.restart = True


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
