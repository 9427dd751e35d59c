"""A deadline that moves with each step of a connection; most steps set no timer."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls back when the last expected step has not come in time."""

    def __init__(self, missed: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._missed = missed
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, seconds: float) -> None:
        """Expect the next step within so many seconds, instead of the one before."""
        self._at = self._loop.time() + seconds
        if self._timer is None or self._at < self._timer.when():
            self.end()
            self._timer = self._loop.call_at(self._at, self.look)

    def look(self) -> None:
        """Call back if it is too late; otherwise look again when it may be, since the deadline has moved."""
        self.end()
        if self._loop.time() < self._at:
            self._timer = self._loop.call_at(self._at, self.look)
        else:
            self._missed()

    def end(self) -> None:
        """Expect nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
