"""How long to wait before a process that has ended is started again."""

import time

# A process that was ready for this long did not fail at its start.
_STABLE_SECONDS = 10.0
_MIN_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.1, 5.0


class Backoff:
    """The delays of one process: none after it was stable, then twice the last one, up to a maximum."""

    def __init__(self) -> None:
        self._delay_seconds = 0.0

    def next(self, ready_time: float) -> float:
        """Return the seconds to wait; `ready_time` is when it was ready, in monotonic seconds."""
        if time.monotonic() - ready_time > _STABLE_SECONDS:
            self._delay_seconds = 0
        delay = self._delay_seconds
        self._delay_seconds = min(max(_MIN_DELAY_SECONDS, 2 * delay), _MAX_DELAY_SECONDS)
        return delay
