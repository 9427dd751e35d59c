"""Lets the making of pages take a small part of a worker's time, so that verifications go on beside it.

Mechanism: pages are made one after the other, in slices between which the event loop does other work. Each
delays those after it by a multiple of the time that it took, once a credit is used up. People who open a page
now and then never wait.

Bound: beyond the credit, pages take a fifteenth of the time; what their RPCs take is bounded by that as well,
since a browser waits for its page.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

# Seconds of a slice, and how much longer than a page took the next one waits.
_SLICE_SECONDS, _REST = 0.002, 14
# Seconds of waiting that are forgiven: some dozens of pages at once.
_CREDIT_SECONDS = 4.0


class Turns:
    """Makes pages, one at a time."""

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Take a stopwatch, and what waits."""
        self._now, self._sleep = now, sleep
        self._turn = asyncio.Lock()
        self._free_at = float("-inf")

    async def made(self, chunks: Iterable[str]) -> str:
        """Return a page that is made chunk by chunk, when it is its turn."""
        async with self._turn:
            if (wait := self._free_at - self._now()) > 0:
                await self._sleep(wait)
            return await self.made_at_once(chunks)

    async def made_at_once(self, chunks: Iterable[str]) -> str:
        """Return a page without waiting for a turn. It delays those after it all the same."""
        parts, spent, started = [], 0.0, self._now()
        for chunk in chunks:
            parts.append(chunk)
            if (taken := self._now() - started) > _SLICE_SECONDS:
                spent += taken
                await self._sleep(0)
                started = self._now()
        now = self._now()
        spent += now - started
        self._free_at = max(self._free_at, now - _CREDIT_SECONDS) + (1 + _REST) * spent
        return "".join(parts)
