"""The gate that calls enter by: counts those in flight, bounds them, and closes before the server does.

When a gRPC server stops, it cancels calls that have arrived and not begun, and their clients cannot tell that
nothing was done. So the gate closes first: calls that come then are refused as UNAVAILABLE, and every client
may retry them.

Bound: `AUTHSVC_IN_FLIGHT_LIMIT` calls are in flight at a time. All but verifications may wait long, for the
database and for other workers. They get half of the places, so verifications always find room.
"""

import asyncio
from contextlib import suppress

from authsvc.model.errors import Overloaded, Unavailable

# Seconds that a call takes on its way through the event loop, and far more.
QUIET_SECONDS = 0.05
# Seconds after which there may be room again.
_RETRY_AFTER_SECONDS = 0.5


def full(whose: str = "") -> Overloaded:
    """Return the error for a full gate."""
    return Overloaded(
        f"too many {whose}calls are in flight; retry. AUTHSVC_IN_FLIGHT_LIMIT sets the limit",
        reason="IN_FLIGHT_LIMIT",
        retry_after=_RETRY_AFTER_SECONDS,
        setting="AUTHSVC_IN_FLIGHT_LIMIT",
    )


class Gate:
    """Lets calls in until it is closed. A call is in flight until its answer is sent."""

    def __init__(self, max_in_flight: int = 1_000_000, *, quiet: float = QUIET_SECONDS) -> None:
        """Take how many calls may be in flight; `quiet`: seconds between closing and the last look."""
        #: How many calls may be in flight.
        self.max_in_flight = max_in_flight
        self._quiet = quiet
        self._in_flight = 0
        self._slow = 0  # those in flight that are not verifications
        #: How many calls were refused for want of room.
        self.refused = 0
        self._closed = False
        self._empty = asyncio.Event()

    @property
    def in_flight(self) -> dict[str, int]:
        """How many calls are in flight, by whether they are verifications."""
        return {"verification": self._in_flight - self._slow, "other": self._slow}

    def check(self, *, slow: bool = False) -> None:
        """Raise what `enter` raises."""
        if self._closed:
            raise Unavailable("the service is stopping; retry", reason="STOPPING", retry_after=1)
        limit = self.max_in_flight
        if self._in_flight >= limit or (slow and self._slow >= limit // 2):
            self.refused += 1
            raise full()

    def enter(self, *, slow: bool = False) -> None:
        """Let a call in, which is to `leave`; `slow`: it is not a verification.

        Raises Unavailable (STOPPING) when the gate is closed, and Overloaded (IN_FLIGHT_LIMIT) when there is
        no room.
        """
        self.check(slow=slow)
        self._in_flight += 1
        self._slow += slow

    def leave(self, *, slow: bool = False) -> None:
        """Let a call out that was let in with the same `slow`."""
        self._in_flight -= 1
        self._slow -= slow
        if self._closed and not self._in_flight:
            self._empty.set()

    async def close(self) -> None:
        """Refuse calls from now on, those included that have arrived and not begun."""
        self._closed = True
        await asyncio.sleep(self._quiet)
        if not self._in_flight:
            self._empty.set()

    async def emptied(self, seconds: float) -> None:
        """Wait until no call is in flight, at most for `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, seconds)):
                await self._empty.wait()
