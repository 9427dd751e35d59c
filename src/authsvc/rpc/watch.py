"""Looks at the connections of clients, and closes those that are not wanted."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from authsvc.rpc.peer import End, end_of
from authsvc.rpc.served import Served

# Seconds between two looks for connections to close, and at least between two.
_LOOK_SECONDS, _PAUSE_SECONDS = 0.5, 0.01
# Seconds in which a client opens connections together.
_TOGETHER_SECONDS = 0.1


class Watch:
    """The looks of one server."""

    def __init__(
        self,
        served: Served,
        read_ends: Callable[[], Awaitable[Sequence[End]]],
        hang_up: Callable[[set[End]], Awaitable[object]],
    ) -> None:
        """Take what returns the other ends of all connections, and what closes the connections of some."""
        self._served, self._read_ends, self._hang_up = served, read_ends, hang_up
        self._connections, self._answers = served.bounds.connections, served.bounds.answers
        self._balance = served.bounds.balance
        self._next_count = 0.0
        self._due = asyncio.Event()
        self._connections.on_condemned = self._due.set
        self._connections.on_known = self._note_known

    async def due(self) -> None:
        """Wait until `look` is due: for a while, or until a connection is to be closed for its calls."""
        await asyncio.sleep(_PAUSE_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._next_count - time.monotonic())):
                await self._due.wait()
        self._due.clear()

    async def look(self) -> None:
        """End calls whose messages are late, and close unwanted connections."""
        self._served.expire()
        unwanted: dict[str, set[End]] = {
            "unread": {end_of(peer) for peer in self._answers.stalled()},
            "resets": {end_of(peer) for peer in self._connections.take_condemned()},
            "room": set(),
        }
        if (now := time.monotonic()) >= self._next_count:
            self._next_count = now + _LOOK_SECONDS
            ends = await self._read_ends()
            self._connections.count(ends)
            unwanted["room"] = self._connections.superfluous(ends)
            self._balance.look(ends, self._connections.open_known)
        closing = set().union(*unwanted.values())
        if closing:
            self._connections.closing({reason: len(some) for reason, some in unwanted.items()})
            await self._hang_up(closing)

    def _note_known(self) -> None:
        self._balance.note_new(self._connections.open_known)
        # Others that were opened with it are known by then.
        self._next_count = min(self._next_count, time.monotonic() + _TOGETHER_SECONDS)
        self._due.set()
