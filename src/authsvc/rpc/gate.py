"""The gate that RPCs enter by: counts those in flight, bounds them, and closes before the server does.

gRPC cancels calls that have arrived but not begun when a server stops, and their
clients cannot tell that nothing was done. So the gate closes first: calls that come then are
refused as UNAVAILABLE, which every client may retry.

Bound: so many are in flight. All but verifications may wait long, for the database and for other workers; so
they get half of it, and verifications always find room.
"""

import asyncio
from contextlib import suppress
from typing import Protocol

from authsvc.errors import Overloaded, Unavailable

# A call on its way through the loop takes far less than this.
QUIET_SECONDS = 0.05
# Seconds after which there may be room again.
_FULL = 0.5


def full(whose: str = "") -> Overloaded:
    """Return the refusal for want of room."""
    return Overloaded(
        f"too many {whose}calls are in flight here; retry. AUTHSVC_IN_FLIGHT_LIMIT sets how many",
        reason="IN_FLIGHT_LIMIT",
        retry_after=_FULL,
        setting="AUTHSVC_IN_FLIGHT_LIMIT",
    )


class _Call(Protocol):
    peer: str


class Gate:
    """Lets RPCs in until it is closed. A call is in flight until its answer is sent."""

    def __init__(self, most: int = 1_000_000, *, quiet: float = QUIET_SECONDS) -> None:
        self._most = most
        self._quiet = quiet
        self._slow = 0  # those in flight that are no verifications
        # How many were refused for want of room.
        self.refused = 0
        self._in_flight: set[_Call] = set()
        self._closed = False
        self._empty = asyncio.Event()

    def enter(self, call: _Call, *, slow: bool = False) -> None:
        """Let an RPC in, which is to `leave`; slow is all but a verification.

        Raises Unavailable when the gate is closed, Overloaded when there is no room.
        """
        if self._closed:
            raise Unavailable("the service is stopping; retry", reason="STOPPING", retry_after=1)
        if len(self._in_flight) >= self._most or (slow and self._slow >= self._most // 2):
            self.refused += 1
            raise full()
        self._in_flight.add(call)
        self._slow += slow

    def leave(self, call: _Call, *, slow: bool = False) -> None:
        """Let an RPC out that was let in likewise."""
        self._in_flight.discard(call)
        self._slow -= slow
        if self._closed and not self._in_flight:
            self._empty.set()

    async def close(self) -> None:
        """Refuse what comes from now on, and what has arrived and not begun."""
        self._closed = True
        await asyncio.sleep(self._quiet)
        if not self._in_flight:
            self._empty.set()

    def peers(self) -> set[str]:
        """Return whose RPCs are in flight, as gRPC calls them."""
        return {call.peer for call in self._in_flight}

    async def emptied(self, seconds: float) -> None:
        """Wait until none is in flight, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, seconds)):
                await self._empty.wait()
