"""A forked child that runs one asynchronous context, reports over a pipe, and does not outlive its parent.

Mechanism: the child enters the context under uvloop, reports what the context yields as `ready`, and waits
for SIGUSR2 from its parent or for the end of its lifeline, a pipe whose write end only the parent holds. Then
it leaves the context, and exits. A report is a line: a word, and a text as JSON. The child ignores SIGTERM:
systemd and others send it to all processes of a service, and the parent decides which ones stop when.

Bound: an orphan has as long to leave the context as its parent would have given it; then SIGALRM ends it. A
child whose parent lives is killed by the parent.

Failure: an OperatorError goes to the parent as `failed`, with its message; any other error is logged with
its traceback. Either way the exit code is 1.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import NoReturn, Protocol, Self

import structlog

from authsvc.model.errors import OperatorError
from authsvc.process import loop
from authsvc.process.standard_error import StandardError, divert

_log = logging.getLogger(__name__)

Report = Callable[[str, str], None]
Context = Callable[[Report], AbstractAsyncContextManager[str]]

NEVER = float("inf")  # a point in time, in monotonic seconds
_STOP = signal.SIGUSR2
_SIGNALS = (_STOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Closeable(Protocol):
    """A resource of the parent that a child has to close."""

    def close(self) -> None:
        """Close it."""


class Pipe:
    """A pipe; after a fork each side closes the end that the other one uses."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader = os.fdopen(reader, "rb", buffering=0)
        self.writer = os.fdopen(writer, "wb", buffering=0)

    def close(self) -> None:
        """Close both ends."""
        self.reader.close()
        self.writer.close()


class Child:
    """A child as its parent sees it.

    `deadline`, in monotonic seconds, is when the parent kills it: a child that is not
    ready, or has not ended, in time. `failure` is its report of why it failed.
    """

    def __init__(
        self, pid: int, name: str, reports: Pipe, standard_error: StandardError, max_stop_seconds: float
    ) -> None:
        self.pid = pid
        self.standard_error = standard_error
        self.name = name
        self.deadline = NEVER
        self.stopping = False
        self.failure = ""
        self._max_stop_seconds = max_stop_seconds
        self._reader = reports.reader
        self._rest = b""
        self._end = ""
        os.set_blocking(self._reader.fileno(), False)

    @classmethod
    def fork(
        cls,
        context: Context,
        name: str,
        *,
        lifeline: Pipe,
        private: Iterable[Closeable],
        max_stop_seconds: float,
        **log_context: object,
    ) -> Self:
        """Fork a child that runs the context; raise OSError when the system has no room for it.

        The child closes what is `private` to the parent, and the write end of the
        lifeline. It has `max_stop_seconds` to end in, whether it is stopped or orphaned.
        Each line that it logs has the `log_context`.
        """
        reports, errors = Pipe(), Pipe()
        # The child does not wait for us to read its standard error.
        os.set_blocking(errors.writer.fileno(), False)
        # The child would write what is left in a buffer a second time.
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Until the child has handlers of its own, those of the parent would handle its signals.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                for resource in (reports.reader, errors.reader, lifeline.writer, *private):
                    resource.close()
                divert(errors.writer.fileno())
                errors.writer.close()
                structlog.contextvars.bind_contextvars(**log_context)
                _live(context, reports.writer.fileno(), lifeline.reader.fileno(), max_stop_seconds, unblocked)
        except BaseException:
            reports.close()
            errors.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        reports.writer.close()
        errors.writer.close()
        return cls(pid, name, reports, StandardError(errors.reader, log_context), max_stop_seconds)

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when there are reports."""
        return self._reader.fileno()

    @property
    def closed(self) -> bool:
        """Whether no more reports can come."""
        return self._reader.closed

    def close(self) -> None:
        """Read no more of its reports and of its standard error."""
        self._reader.close()
        self.standard_error.close()

    def reports(self) -> Iterator[tuple[str, str]]:
        """Yield the reports that have arrived, and keep that of a failure; do not wait."""
        while not self._reader.closed:
            read = self._reader.read(65536)
            if read is None:
                return
            if not read:
                self._reader.close()
            *lines, self._rest = (self._rest + read).split(b"\n")
            for line in lines:
                word, text = line.decode().split(" ", 1)
                if word == "failed":
                    self.failure = json.loads(text)
                else:
                    yield word, json.loads(text)

    def end(self) -> str:
        """Return how it ended, for instance `exit code 1` or `SIGKILL`; an empty string while it lives."""
        if not self._end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._end = f"exit code {code}" if code >= 0 else _name(-code)
        return self._end

    def stop(self) -> None:
        """Tell it to stop, unless it was told before; from then on its deadline is for its end."""
        if not self.stopping:
            self.stopping = True
            self.deadline = time.monotonic() + self._max_stop_seconds
            self.send(_STOP)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        # The system gives its process id to nobody else until `end` has reaped it.
        if not self._end:
            os.kill(self.pid, number)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _live(
    context: Context, reports: int, lifeline: int, max_stop_seconds: float, unblocked: Iterable[int]
) -> NoReturn:
    """Run the child to its end; `reports` and `lifeline` are file descriptors."""
    code = 1

    def report(word: str, text: str) -> None:
        # When the parent is gone, the lifeline ends this process cleanly.
        with suppress(BrokenPipeError):
            os.write(reports, f"{word} {json.dumps(text)}\n".encode())

    try:
        signal.set_wakeup_fd(-1)
        # Ctrl-C and the end of a terminal reach the whole process group, and SIGTERM often all processes of a
        # service; the parent decides what to do.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        loop.run(_run(context, report, lifeline, max_stop_seconds, unblocked))
        code = 0
    except OperatorError as error:
        report("failed", str(error))
    except BaseException:  # noqa: BLE001 - whatever it is, the parent's code must not continue here
        _log.exception("an unexpected error ends this process")
        report("failed", "an unexpected error, whose traceback is in the log")
    finally:
        # No destructors and exit handlers, which are for the parent; except for the log, which has counts to
        # write.
        logging.shutdown()
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


async def _run(
    context: Context, report: Report, lifeline: int, max_stop_seconds: float, unblocked: Iterable[int]
) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs has a task
    stop = asyncio.Event()
    ready = False

    def end() -> None:
        if not stop.is_set():
            stop.set()
            if not ready:
                task.cancel()

    def orphaned() -> None:
        loop.remove_reader(lifeline)
        signal.setitimer(signal.ITIMER_REAL, max_stop_seconds)
        end()

    loop.add_signal_handler(_STOP, end)
    loop.add_reader(lifeline, orphaned)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    try:
        async with context(report) as text:
            ready = True
            report("ready", text)
            await stop.wait()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
