"""Calls of unknown callers: those refused before the caller is known, health, and reflection.

Bound: calls of an address within `AUTHSVC_STRANGER_LIMIT` are answered at once, and each further one after a
second. Together with the limit of calls on one connection, that slows a flood down; known callers do not wait
behind it. The address is that of the connection. When very many calls wait already, the next one does
not: waiting takes memory.
"""

import asyncio
from collections.abc import Callable

from authsvc.model.address import site
from authsvc.model.rate import Limiter, Rate

DELAY_SECONDS = 1.0
_MAX_WAITING = 2000


class Strangers:
    """Delays unauthenticated callers that call too often."""

    def __init__(self, rate: Rate, now: Callable[[], float]) -> None:
        """Take the rate of calls of an address that are answered at once, and a stopwatch."""
        self._limiter = Limiter(rate, now)
        self._waiting = 0
        #: How many calls had to wait.
        self.delayed = 0

    async def wait(self, address: str) -> None:
        """Wait as long as a call from this address has to."""
        if not self._limiter.take(site(address)) or self._waiting >= _MAX_WAITING:
            return
        self.delayed += 1
        self._waiting += 1
        try:
            await asyncio.sleep(DELAY_SECONDS)
        finally:
            self._waiting -= 1
