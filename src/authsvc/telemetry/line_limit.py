"""How many alike log lines are written, so that nobody who calls can fill the disk of the log."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Lines of a kind that are written in a window, which is so many seconds long.
MAX_LINES, WINDOW = 20, 60.0
# Kinds that are counted apart; the others share one.
_MAX_KINDS = 1000


class Kind(NamedTuple):
    """Lines that are alike: from one place in the code, at one level, about one type of exception."""

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
    """Counts lines by kind. Not safe for threads: its user has a lock."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Take a clock, in seconds, that does not go backwards."""
        self._now = now
        self._windows: dict[Kind, _Window] = {}
        #: Lines dropped since the start, by logger.
        self.dropped: Counter[str] = Counter()

    def admits(self, record: logging.LogRecord) -> bool:
        """Count a line, and say whether it may be written."""
        kind, now = Kind.of(record), self._now()
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= _MAX_KINDS:
                self._forget(now)
            if len(self._windows) >= _MAX_KINDS:
                kind = _ANY_OTHER
            window = self._windows.setdefault(kind, _Window(now + WINDOW))
        if now >= window.ends and not window.dropped:
            window.ends, window.written = now + WINDOW, 0
        # One whose drops were not told yet goes on until they are.
        if window.written < MAX_LINES:
            window.written += 1
            return True
        window.dropped += 1
        self.dropped[kind.logger] += 1
        return False

    def ended(self, *, all_of_them: bool = False) -> Iterator[tuple[Kind, int]]:
        """Yield how many lines were dropped of each kind whose window is over, and begin anew for it."""
        now = self._now()
        for kind, window in list(self._windows.items()):
            if window.dropped and (all_of_them or now >= window.ends):
                yield kind, window.dropped
                del self._windows[kind]

    @property
    def has_more_to_tell(self) -> bool:
        """Whether there are dropped lines that `ended` has not told of."""
        return any(window.dropped for window in self._windows.values())

    def _forget(self, now: float) -> None:
        for kind, window in list(self._windows.items()):
            if now >= window.ends and not window.dropped:
                del self._windows[kind]
