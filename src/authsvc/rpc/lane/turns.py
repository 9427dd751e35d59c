"""The turns of connections that have more to say than one wake-up has time for.

Mechanism: they stand in a queue. Each turn of the event loop takes parts from its head for a time; a
connection that has more goes to its end. Connections without a caller share one queue, and those of callers
another one, in which only what a connection has beyond one part has to wait.

Bound: whatever strangers send on any number of connections takes half a millisecond, and one part, of each
turn of the event loop, and the tasks of the calls in it about twice as much.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

# Seconds that all connections of a queue may take in a turn of the event loop.
_CALLERS_SECONDS, _STRANGERS_SECONDS = 0.001, 0.0005


class Turns:
    """One queue."""

    def __init__(self, seconds: float) -> None:
        """Take how long all may take in a turn of the event loop."""
        self.seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent = 0.0
        self._is_due = False

    @property
    def are_taken(self) -> bool:
        """Whether whoever comes now has to wait."""
        return bool(self._waiting) or self._spent > self.seconds

    def ask(self, take: Callable[[], None]) -> None:
        """Have `take` called when it is its turn."""
        self._waiting.append(take)
        self._wake()

    def spend(self, seconds: float) -> None:
        """Note what was taken of this turn of the event loop."""
        self._spent += seconds
        self._wake()

    def _wake(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_due = False
        begun, self._spent = perf_counter(), 0.0
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
            self._spent = perf_counter() - begun
            if self._spent > self.seconds:
                break
        if self._waiting:
            self._wake()


class Queues:
    """The queues of one server."""

    def __init__(self) -> None:
        self.callers, self.strangers = Turns(_CALLERS_SECONDS), Turns(_STRANGERS_SECONDS)
