"""The gate that RPCs enter by: counts those in flight, and closes before the server does.

gRPC cancels calls that have arrived but not begun when a server stops, and their
clients cannot tell that nothing was done. So the gate closes first: calls that come then are
refused as UNAVAILABLE, which every client may retry.
"""

import asyncio
import time
from contextlib import suppress

from authsvc.errors import Unavailable

# A call on its way through the loop takes far less than this.
_QUIET = 0.05


class Gate:
    """Lets RPCs in until it is closed."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._closed = False
        self._empty = asyncio.Event()

    def enter(self) -> None:
        """Count an RPC in, which is to `leave`; raise Unavailable when the gate is closed."""
        if self._closed:
            raise Unavailable("the service is stopping; retry", reason="STOPPING", retry_after=1)
        self._in_flight += 1

    def leave(self) -> None:
        """Count an RPC out."""
        self._in_flight -= 1
        if self._closed and not self._in_flight:
            self._empty.set()

    async def close(self, grace: float) -> float:
        """Refuse what comes from now on; return when none is in flight, with what is left of `grace` seconds.

        What is left is never nothing, so that answers on their way get out.
        """
        self._closed = True
        deadline = time.monotonic() + grace
        await asyncio.sleep(_QUIET)  # For what has arrived and not begun.
        if self._in_flight:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), deadline - time.monotonic())
        return max(_QUIET, deadline - time.monotonic())
