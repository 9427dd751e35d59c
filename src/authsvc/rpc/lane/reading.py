"""What has arrived from one client: it is taken in parts, so that a flood leaves other clients their turn.

Mechanism: of what a wake-up brings, one part is taken at once, and the next one when the event loop has
looked at all other connections. Until then nothing is read. Parts grow while they take less than a
millisecond, and shrink when they take longer, since the work for some bytes depends on what they say.

Bound: what the transport hands over at once, which is 256 KB, is kept.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter

# Bytes of a part, at first, at least and at most; seconds that one may take.
_PART_BYTES, _MIN_PART_BYTES, _MAX_PART_BYTES = 4096, 512, 64 * 1024
_PART_SECONDS = 0.001


class Reading:
    """Reads from one transport, unless it is paused."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        """Take what is called with each part."""
        self._take = take
        self._rest = bytearray()
        self._part_bytes = _PART_BYTES
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_paused = self._is_due = False

    def begin(self, transport: asyncio.Transport) -> None:
        """Read from a transport."""
        self._transport = transport

    def take(self, data: bytes) -> None:
        """Take a part of what was left and of new data."""
        size = self._part_bytes
        if self._rest or len(data) > size:
            self._rest += data
            data = bytes(self._rest[:size])
            del self._rest[:size]
            self._look()
        begun = perf_counter()
        self._take(data)
        if perf_counter() - begun > _PART_SECONDS:
            self._part_bytes = max(size // 2, _MIN_PART_BYTES)
        elif len(data) == size:
            self._part_bytes = min(size * 2, _MAX_PART_BYTES)

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
        self._rest.clear()
        self.resume()

    def _look(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._rest or self._is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        if self._rest and not (self._is_paused or self._is_due):
            self._is_due = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_due = False
        if self._rest and not self._is_paused:
            self.take(b"")
