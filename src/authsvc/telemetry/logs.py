"""The log: one handler for every line of the process."""

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import structlog

from authsvc.telemetry import wording
from authsvc.telemetry.current_call import add_ids, answering
from authsvc.telemetry.line_limit import WINDOW_SECONDS, Kind, LineLimit

_log = logging.getLogger(__name__)

Later = Callable[[float, Callable[[], None]], None]


def configure_logging(
    level: str, style: str, redact: Callable[[str], str], stream: TextIO | None = None
) -> None:
    """Send all logs of the process to `stream` (default: standard error): limited, without values, redacted.

    This includes what Python itself would write there: warnings, and exceptions that no caller can catch.
    """
    target = sys.stderr if stream is None else stream
    as_text = style == "text" or (style == "auto" and target.isatty())
    handler = LogHandler(target, _formatter(as_text, colors=target.isatty()), redact)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[*_BEFORE, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    warnings.showwarning = _log_warning
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_ended


def log_lines_dropped() -> Mapping[str, float]:
    """Return the number of lines that this process has dropped because of the limit, by logger."""
    handlers = (handler for handler in logging.root.handlers if isinstance(handler, LogHandler))
    return {name: count for handler in handlers for name, count in handler.limit.dropped.items()}


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes log lines. Warnings, errors and lines of libraries are limited by kind."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter, redact: Callable[[str], str]) -> None:
        """Take the stream, the formatter, and a function that removes secrets from a line."""
        super().__init__(stream)
        self.setFormatter(formatter)
        self.limit = LineLimit(time.monotonic)
        self._redact = redact
        self._later: Later = _in_thread
        # The process that has a timer running. Threads do not survive a fork, so a new process needs its own.
        self._waits_in = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it as dropped."""
        limited = record.levelno >= logging.WARNING or not wording.is_ours(record.name)
        self._report(self.limit.ended())
        if not limited or self.limit.admits(record):
            super().emit(record)
        else:
            self._wait()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        safe = logging.makeLogRecord(record.__dict__)
        safe.msg, safe.args, safe.exc_info, safe.exc_text = wording.message(record), (), None, None
        error = record.exc_info[1] if record.exc_info else None
        safe.exception = "" if error is None else wording.exception(error)
        return self._redact(super().format(safe))

    def handleError(self, record: logging.LogRecord) -> None:
        """Write the origin of a line that cannot be formatted. The default would show its arguments."""
        with suppress(Exception):  # There is nowhere left to report it.
            self.stream.write(
                f"a log line of {record.name} cannot be written: {record.pathname}:{record.lineno}\n"
            )

    def report_dropped(self, *, all_of_them: bool = False) -> None:
        """Write the number of dropped lines of each kind whose window has ended."""
        with self.lock or threading.RLock():
            self._waits_in = 0
            self._report(self.limit.ended(all_of_them=all_of_them))
            if self.limit.has_unreported:
                self._wait()

    def close(self) -> None:
        """Report the remaining dropped lines."""
        self.report_dropped(all_of_them=True)
        super().close()

    def _wait(self) -> None:
        if self._waits_in != os.getpid():
            self._waits_in = os.getpid()
            self._later(WINDOW_SECONDS, self.report_dropped)

    def _report(self, ended: Iterable[tuple[Kind, int]]) -> None:
        for kind, dropped in ended:
            with answering(None):  # they are not about the call that logs now
                super().emit(_summary(kind, dropped))


def _summary(kind: Kind, dropped: int) -> logging.LogRecord:
    about = f" about {kind.exception}" if kind.exception else ""
    where = f" from {Path(kind.file).name}:{kind.line}" if kind.file else ""
    text = "%d more lines of %s%s%s were dropped within a minute"
    args = (dropped, kind.logger, where, about)
    return logging.LogRecord(_log.name, kind.level, kind.file, kind.line, text, args, None)


def _in_thread(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


def _fields(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    event.update(getattr(event["_record"], "fields", {}))
    return event


def _exception(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    if text := getattr(event["_record"], "exception", ""):
        event["exception"] = text
    return event


_BEFORE: list[structlog.types.Processor] = [
    structlog.contextvars.merge_contextvars,
    add_ids,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _formatter(as_text: bool, *, colors: bool) -> logging.Formatter:
    renderer = (
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer()
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_BEFORE,
        processors=[
            _fields,
            _exception,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            renderer,
        ],
    )


def _log_warning(
    message: object,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    _log.warning("%s at %s:%d", category.__name__, filename, lineno)


def _unraisable(given: Any) -> None:
    if given.exc_value is not None:
        what = getattr(given.object, "__qualname__", type(given.object).__name__)
        _log.error("an unraisable exception in %s", what, exc_info=given.exc_value)


def _thread_ended(given: Any) -> None:
    if given.exc_value is not None and given.exc_type is not SystemExit:
        name = given.thread.name if given.thread is not None else "?"
        _log.error("the thread %s ended with an exception", name, exc_info=given.exc_value)
