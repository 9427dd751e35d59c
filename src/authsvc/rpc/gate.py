"""The gate that RPCs enter by: counts those in flight, and closes before the server does.

gRPC cancels calls that have arrived but not begun when a server stops, and their
clients cannot tell that nothing was done. So the gate closes first: calls that come then are
refused as UNAVAILABLE, which every client may retry.
"""

import asyncio
from contextlib import suppress
from typing import Protocol

from authsvc.errors import Unavailable

# A call on its way through the loop takes far less than this.
_QUIET = 0.05


class _Call(Protocol):
    def peer(self) -> str: ...


class Gate:
    """Lets RPCs in until it is closed. Each is known by its context."""

    def __init__(self) -> None:
        self._in_flight: set[_Call] = set()
        self._closed = False
        self._empty = asyncio.Event()

    def enter(self, call: _Call) -> None:
        """Let an RPC in, which is to `leave`; raise Unavailable when the gate is closed."""
        if self._closed:
            raise Unavailable("the service is stopping; retry", reason="STOPPING", retry_after=1)
        self._in_flight.add(call)

    def leave(self, call: _Call) -> None:
        """Let an RPC out."""
        self._in_flight.discard(call)
        if self._closed and not self._in_flight:
            self._empty.set()

    async def close(self) -> None:
        """Refuse what comes from now on, and what has arrived and not begun."""
        self._closed = True
        await asyncio.sleep(_QUIET)
        if not self._in_flight:
            self._empty.set()

    def peers(self) -> set[str]:
        """Return whose RPCs are in flight, as gRPC calls them."""
        return {call.peer() for call in self._in_flight}

    async def emptied(self, seconds: float) -> None:
        """Wait until none is in flight, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, seconds)):
                await self._empty.wait()
