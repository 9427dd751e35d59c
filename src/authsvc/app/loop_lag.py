"""How late the event loop of a process is.

Mechanism: a task sleeps, and measures by how much longer it slept than it was to. What it measures, any call
that becomes due at that moment waits, too.

Bound: four measurements a second. So a pause of a length below a quarter of a second is seen in that
proportion of cases.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from authsvc.telemetry.durations import Durations

_SECONDS = 0.25


class LoopLag:
    """Measures for as long as it runs."""

    def __init__(
        self,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep = sleep
        self._now = now
        self.lags = Durations()

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            due = self._now() + _SECONDS
            await self._sleep(_SECONDS)
            self.lags.observe(max(0.0, self._now() - due))
