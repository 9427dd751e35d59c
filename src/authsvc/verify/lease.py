"""The right to answer from memory, for a time.

Mechanism: a lease in the sense of Gray and Cheriton (SOSP 1989). Whoever changes a
credential waits until each worker has applied the change or its lease is over, so
a worker whose lease is over must not answer: others no longer wait for it.

Bound: a renewal counts from before it was asked for, on a clock that no one can set
and that goes on while the machine sleeps; so a pause of any length is noticed.

Failure: without a lease every verification is UNAVAILABLE, never a verdict.
"""

import asyncio
from contextlib import suppress
from math import inf

from authsvc.model.errors import Unavailable
from authsvc.verify.clock import Stopwatch, boottime


class Lease:
    """Held until an instant of the stopwatch; renewed by the feed alone."""

    def __init__(self, stopwatch: Stopwatch = boottime) -> None:
        self._stopwatch = stopwatch
        self._until = -inf
        self._renewed = asyncio.Event()
        self._ended = asyncio.Event()
        # Why it is not held, for people.
        self.reason = "this worker has not reached the database yet"

    def renew(self, until: float) -> None:
        """Hold it until the stopwatch shows `until`."""
        self._until = until
        self.reason = "this worker cannot reach the database"
        self._renewed.set()

    def end(self, reason: str) -> None:
        """Let go of it at once."""
        self._until = -inf
        self.reason = reason
        self._ended.set()

    def check(self) -> None:
        """Raise Unavailable unless it is held. To be called last, with no await before the answer."""
        if self._stopwatch() >= self._until:
            raise Unavailable(
                f"nothing can be verified now: {self.reason}; retry", reason="LEASE_OVER", retry_after=1
            )

    @property
    def left(self) -> float:
        """For how many seconds it is held."""
        return max(0.0, self._until - self._stopwatch())

    async def taken(self) -> None:
        """Wait until it is held."""
        while not self.left:
            self._renewed.clear()
            await self._renewed.wait()

    async def over(self) -> None:
        """Wait until it is not held."""
        while left := self.left:
            self._ended.clear()
            with suppress(TimeoutError):
                # The loop's own clock stands still while the machine is suspended, so look now and then.
                async with asyncio.timeout(min(left, 1.0)):
                    await self._ended.wait()
