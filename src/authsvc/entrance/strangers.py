"""Calls of nobody in particular: those that are refused before it is known who calls, health and reflection.

Bound: of one address so many a second are answered at once, and each further one after a second. With the
bound of calls of one connection that holds a flood of them down to so many a second; who is known does not
wait behind it. The address is that of the connection. When very many wait already, the next one does not:
waiting takes memory.
"""

import asyncio
from collections.abc import Callable

from authsvc.model.address import site
from authsvc.model.rate import Limiter, Rate
from authsvc.net.peer import address_of

SECONDS = 1.0
_MAX_WAITING = 2000


class Strangers:
    """Has them wait who ask more often than a client of ours would."""

    def __init__(self, rate: Rate, now: Callable[[], float]) -> None:
        """Take how many calls of an address are answered at once, by a stopwatch."""
        self._limiter = Limiter(rate, now)
        self._waiting = 0
        # How many calls had to wait.
        self.delayed = 0

    async def wait(self, peer: str) -> None:
        """Wait as long as a call of this peer, as gRPC calls it, has to."""
        if not self._limiter.take(site(address_of(peer))) or self._waiting >= _MAX_WAITING:
            return
        self.delayed += 1
        self._waiting += 1
        try:
            await asyncio.sleep(SECONDS)
        finally:
            self._waiting -= 1
