"""The lease: the right of this worker to answer from memory, for a limited time.

Mechanism: a lease as described by Gray and Cheriton (SOSP 1989). A change of a credential waits until each
worker has applied it or the lease of that worker is over. A worker without a lease must not answer, because
changes do not wait for it.

Bound: a renewal counts from before the query. The stopwatch cannot be set and includes suspension, so a pause
of any length is noticed.

Failure: without a lease, every verification is UNAVAILABLE, never a verdict.
"""

import asyncio
from contextlib import suppress
from math import inf

from authsvc.model.errors import Unavailable
from authsvc.verify.clock import Stopwatch, boottime

# The drift that is allowed between two stopwatches, and a margin, as factors of a lease.
_DRIFT = 1.02
_MARGIN = 1 / 6


def certainly_over(lease: float) -> float:
    """Return the seconds on this stopwatch after which a lease of that length on another machine is over."""
    return lease * (_DRIFT + _MARGIN)


class Lease:
    """Held until an instant on the stopwatch. Only the follower renews it."""

    def __init__(self, stopwatch: Stopwatch = boottime) -> None:
        self._stopwatch = stopwatch
        self._until = -inf
        self._renewed = asyncio.Event()
        self._ended = asyncio.Event()
        # Why it is not held, for error messages and logs.
        self.reason = "this worker has not reached the database yet"

    def renew(self, until: float) -> None:
        """Hold the lease until the stopwatch shows `until`."""
        self._until = until
        self.reason = "this worker could not renew its lease in the database"
        self._renewed.set()

    def end(self, reason: str) -> None:
        """Give up the lease now."""
        self._until = -inf
        self.reason = reason
        self._ended.set()

    def check(self) -> None:
        """Raise Unavailable unless the lease is held. Nothing may be awaited between this and the answer."""
        if self._stopwatch() >= self._until:
            raise Unavailable(
                f"nothing can be verified now: {self.reason}; retry", reason="LEASE_OVER", retry_after=1
            )

    @property
    def until(self) -> float:
        """When it ends, on the stopwatch; minus infinity when it was given up."""
        return self._until

    @property
    def left(self) -> float:
        """The remaining seconds; 0 when it is not held."""
        return max(0.0, self._until - self._stopwatch())

    async def taken(self) -> None:
        """Wait until the lease is held."""
        while not self.left:
            self._renewed.clear()
            await self._renewed.wait()

    async def over(self) -> None:
        """Wait until the lease is not held."""
        while left := self.left:
            self._ended.clear()
            with suppress(TimeoutError):
                # The clock of the event loop stops while the machine is suspended, so no wait is long.
                async with asyncio.timeout(min(left, 1.0)):
                    await self._ended.wait()
