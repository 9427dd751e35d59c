"""The gate that RPCs enter by: counts those in flight, and closes before the server does.

gRPC cancels calls that have arrived but not begun when a server stops, and their
clients cannot tell that nothing was done. So the gate closes first: calls that come then are
refused as UNAVAILABLE, which every client may retry.
"""

import asyncio
import time

from authsvc.errors import Unavailable

# A call on its way through the loop takes far less than this.
_QUIET = 0.05


class Gate:
    """Lets RPCs in until it is closed."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._arrived = 0
        self._closed = False

    def enter(self) -> None:
        """Count an RPC in; raise Unavailable when the gate is closed. Each call needs its `leave`."""
        self._in_flight += 1
        self._arrived += 1
        if self._closed:
            raise Unavailable("the service is stopping; retry", reason="STOPPING", retry_after=1)

    def leave(self) -> None:
        """Count an RPC out."""
        self._in_flight -= 1

    async def close(self, grace: float) -> float:
        """Refuse what comes from now on; return when all is quiet, with what is left of `grace` seconds."""
        self._closed = True
        deadline = time.monotonic() + grace
        while (left := deadline - time.monotonic()) > 0:
            before = self._arrived
            await asyncio.sleep(min(_QUIET, left))
            if self._in_flight == 0 and self._arrived == before:
                break
        return max(0.0, deadline - time.monotonic())
