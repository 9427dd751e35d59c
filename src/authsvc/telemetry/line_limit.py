"""Limits the number of similar log lines, so that callers cannot fill the disk."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# The number of lines of one kind that are written in one window, and the length of a window.
MAX_LINES, WINDOW_SECONDS = 20, 60.0
# The number of kinds that are counted separately. All others are counted as one kind.
_MAX_KINDS = 1000


class Kind(NamedTuple):
    """Similar lines: from one place in the code, at one level, about one type of exception."""

    logger: str
    level: int
    file: str
    line: int
    exception: str

    @classmethod
    def of(cls, record: logging.LogRecord) -> "Kind":
        """Return the kind of a line."""
        error = record.exc_info[0] if record.exc_info else None
        return cls(
            record.name, record.levelno, record.pathname, record.lineno, error.__name__ if error else ""
        )


_ANY_OTHER = Kind("several loggers", logging.WARNING, "", 0, "")


@dataclass(slots=True)
class _Window:
    ends: float
    written: int = 0
    dropped: int = 0


class LineLimit:
    """Counts lines by kind. Not thread-safe: the caller must hold a lock."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Take a monotonic clock, in seconds."""
        self._now = now
        self._windows: dict[Kind, _Window] = {}
        #: The number of lines dropped since the start, by logger.
        self.dropped: Counter[str] = Counter()

    def admits(self, record: logging.LogRecord) -> bool:
        """Count a line, and return whether it may be written."""
        kind, now = Kind.of(record), self._now()
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= _MAX_KINDS:
                self._forget(now)
            if len(self._windows) >= _MAX_KINDS:
                kind = _ANY_OTHER
            window = self._windows.setdefault(kind, _Window(now + WINDOW_SECONDS))
        if now >= window.ends and not window.dropped:
            window.ends, window.written = now + WINDOW_SECONDS, 0
        # A window whose dropped lines have not been reported yet lasts until they are.
        if window.written < MAX_LINES:
            window.written += 1
            return True
        window.dropped += 1
        self.dropped[kind.logger] += 1
        return False

    def ended(self, *, all_of_them: bool = False) -> Iterator[tuple[Kind, int]]:
        """Yield the number of dropped lines for each kind whose window has ended, and reset the kind."""
        now = self._now()
        for kind, window in list(self._windows.items()):
            if window.dropped and (all_of_them or now >= window.ends):
                yield kind, window.dropped
                del self._windows[kind]

    @property
    def has_unreported(self) -> bool:
        """Whether there are dropped lines that `ended` has not yielded yet."""
        return any(window.dropped for window in self._windows.values())

    def _forget(self, now: float) -> None:
        for kind, window in list(self._windows.items()):
            if now >= window.ends and not window.dropped:
                del self._windows[kind]
