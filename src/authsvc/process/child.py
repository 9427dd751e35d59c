"""A forked child that runs one asynchronous context, reports over a pipe, and does not outlive its parent.

Mechanism: the child enters the context under uvloop, reports what the context yields as `ready`, and waits
for SIGTERM or for the end of its lifeline, a pipe whose write end only the parent holds. Then it leaves the
context and the process. A report is a line: a word, and a text as JSON.

Bound: an orphan has as long to leave the context as its parent would have given it; then an alarm ends it. A
child that has a parent is the parent's to kill.

Failure: an OperatorError goes to the parent as `failed`, with its message; any other error is logged with
its traceback. Either way the exit code is 1.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import NoReturn, Protocol, Self

import structlog

from authsvc.model.errors import OperatorError
from authsvc.process import loop

_log = logging.getLogger(__name__)

Report = Callable[[str, str], None]
Context = Callable[[Report], AbstractAsyncContextManager[str]]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Closeable(Protocol):
    """What a child has to close, because it is its parent's."""

    def close(self) -> None:
        """Let go of it."""


class Pipe:
    """A pipe; after a fork each side closes the end that is not its own."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader = os.fdopen(reader, "rb", buffering=0)
        self.writer = os.fdopen(writer, "wb", buffering=0)

    def close(self) -> None:
        """Close both ends."""
        self.reader.close()
        self.writer.close()


class Child:
    """A child as its parent sees it."""

    def __init__(self, pid: int, reports: Pipe) -> None:
        self.pid = pid
        self._reader = reports.reader
        self._rest = b""
        self._end = ""
        os.set_blocking(self._reader.fileno(), False)

    @classmethod
    def fork(
        cls,
        context: Context,
        *,
        lifeline: Pipe,
        parents: Iterable[Closeable],
        patience: float,
        **log_context: object,
    ) -> Self:
        """Fork a child that runs the context; raise OSError when the system has no room for it.

        `parents` are the parent's alone, besides the write end of the lifeline;
        `patience` is what an orphan has to end in, in seconds; every log line of the
        child bears the `log_context`.
        """
        reports = Pipe()
        # What is left in a buffer the child would write a second time.
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # One that came between the fork and the child's own handlers would be taken for the parent's.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                for ours in (reports.reader, lifeline.writer, *parents):
                    ours.close()
                structlog.contextvars.bind_contextvars(**log_context)
                _live(context, reports.writer.fileno(), lifeline.reader.fileno(), patience, unblocked)
        except BaseException:
            reports.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        reports.writer.close()
        return cls(pid, reports)

    def fileno(self) -> int:
        """Return what becomes readable when there are reports."""
        return self._reader.fileno()

    @property
    def closed(self) -> bool:
        """Whether no more reports can come."""
        return self._reader.closed

    def close(self) -> None:
        """Hear no more of it."""
        self._reader.close()

    def reports(self) -> Iterator[tuple[str, str]]:
        """Yield the reports that are here; wait for none."""
        while not self._reader.closed:
            read = self._reader.read(65536)
            if read is None:
                return
            if not read:
                self._reader.close()
            *lines, self._rest = (self._rest + read).split(b"\n")
            for line in lines:
                word, _, text = line.partition(b" ")
                yield word.decode(), json.loads(text)

    def end(self) -> str:
        """Return how it ended, for instance `exit code 1` or `SIGKILL`; nothing while it lives."""
        if not self._end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._end = f"exit code {code}" if code >= 0 else _name(-code)
        return self._end

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        # Its number is nobody else's until `end` has told of its end.
        if not self._end:
            os.kill(self.pid, number)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _live(
    context: Context, reports: int, lifeline: int, patience: float, unblocked: Iterable[int]
) -> NoReturn:
    """Be the child."""
    code = 1

    def report(word: str, text: str) -> None:
        # Without its parent it ends by the lifeline, in good order.
        with suppress(BrokenPipeError):
            os.write(reports, f"{word} {json.dumps(text)}\n".encode())

    try:
        signal.set_wakeup_fd(-1)
        # Ctrl-C and the end of a terminal reach the whole group; what it means is for the parent to say.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        loop.run(_run(context, report, lifeline, patience, unblocked))
        code = 0
    except OperatorError as error:
        report("failed", str(error))
    except BaseException:  # noqa: BLE001 - whatever it is, the parent's code must not go on here
        _log.exception("a fault ends this process")
        report("failed", "a fault, whose traceback is in the log")
    finally:
        # No destructor and no exit handler: they are the parent's. But for the log, which has counts to tell.
        logging.shutdown()
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


async def _run(
    context: Context, report: Report, lifeline: int, patience: float, unblocked: Iterable[int]
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
        signal.setitimer(signal.ITIMER_REAL, patience)
        end()

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_reader(lifeline, orphaned)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    try:
        async with context(report) as told:
            ready = True
            report("ready", told)
            await stop.wait()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
