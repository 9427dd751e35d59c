"""What has arrived from one client: it is taken in parts, so that a flood leaves other clients their turn.

Mechanism: of what a wake-up brings, one part is taken at once, and the next one when the event loop has
looked at all other connections. Until then nothing is read.

Bound: what the transport hands over at once, which is 256 KB, is kept.
"""

import asyncio
from collections.abc import Callable

#: Bytes of a part: a few dozen calls, or hundreds of small frames, which take some milliseconds.
PART_BYTES = 4096


class Reading:
    """Reads from one transport, unless it is paused."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        """Take what is called, with no more bytes, when the next part is due."""
        self._take = take
        #: What is not taken yet.
        self.rest = bytearray()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_paused = self._is_due = False

    def begin(self, transport: asyncio.Transport) -> None:
        """Read from a transport."""
        self._transport = transport

    def part(self, data: bytes) -> bytes:
        """Return the next part of what was left and of new data."""
        self.rest += data
        part = bytes(self.rest[:PART_BYTES])
        del self.rest[:PART_BYTES]
        self._look()
        return part

    def pause(self) -> None:
        """Take and read nothing."""
        self._is_paused = True
        self._look()

    def resume(self) -> None:
        """Go on."""
        self._is_paused = False
        self._look()

    def drop(self) -> None:
        """Drop what is left; whatever follows is read, so that the end of the connection is seen."""
        self.rest.clear()
        self.resume()

    def _look(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self.rest or self._is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        if self.rest and not (self._is_paused or self._is_due):
            self._is_due = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_due = False
        if self.rest and not self._is_paused:
            self._take(b"")
