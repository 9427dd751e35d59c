"""Lets the making of pages take a small part of a worker's time, so that verifications go on beside it.

Mechanism: pages are made one after the other, those of each owner in turn, in slices between which the event
loop does other work. Each delays those after it by a multiple of the time that it took, once a credit is used
up. People who open a page now and then do not wait unless others have used it up.

Bound: beyond the credit, pages take a thirtieth of the time. A page that is only shown calls its RPCs within
its turn, so these are as few.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

# Seconds of a slice, and how much longer than a page took the next one waits.
_SLICE_SECONDS, _REST = 0.002, 29
# Seconds of waiting that are forgiven: some dozens of pages at once.
_CREDIT_SECONDS = 6.0
# How long a page waits at most once it is its turn, unless a single one before it has taken very long.
_MAX_WAIT_SECONDS = 2.0


class Turns:
    """Makes pages, one at a time."""

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Take a stopwatch, and what waits."""
        self._now, self._sleep = now, sleep
        self._is_taken = False
        # By owner; the one whose turn is next comes first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._free_at = float("-inf")

    @asynccontextmanager
    async def held(self, owner: str = "") -> AsyncIterator[None]:
        """Hold the turn of an owner, once it comes. Of what is done in it, the making of pages is counted."""
        await self._take(owner)
        try:
            if (wait := self._free_at - self._now()) > 0:
                await self._sleep(wait)
            yield
        finally:
            self._pass_on()

    async def made(self, chunks: Iterable[str], owner: str = "") -> str:
        """Return a page for an owner that is made chunk by chunk, when it is its turn."""
        async with self.held(owner):
            return await self.made_at_once(chunks)

    @asynccontextmanager
    async def turn(self, owner: str = "") -> AsyncIterator[None]:
        """Let other work for an owner have a turn, and count all the time that it takes."""
        async with self.held(owner):
            started = self._now()
            try:
                yield
            finally:
                self._count(self._now() - started)

    async def made_at_once(self, chunks: Iterable[str]) -> str:
        """Return a page without waiting for a turn. It delays those after it all the same."""
        parts, spent, started = [], 0.0, self._now()
        for chunk in chunks:
            parts.append(chunk)
            if (taken := self._now() - started) > _SLICE_SECONDS:
                spent += taken
                await self._sleep(0)
                started = self._now()
        self._count(spent + self._now() - started)
        return "".join(parts)

    def _count(self, spent: float) -> None:
        now = self._now()
        self._free_at = max(self._free_at, now - _CREDIT_SECONDS) + (1 + _REST) * spent
        # Many that did not wait themselves, such as pages with new keys, do not keep others waiting for long.
        self._free_at = min(self._free_at, now + max(_MAX_WAIT_SECONDS, _REST * spent))

    async def _take(self, owner: str) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had come
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            owner = next(iter(self._waiting))
            turns = self._waiting.pop(owner)
            turn = turns.popleft()
            if turns:
                self._waiting[owner] = turns  # at the end
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False
