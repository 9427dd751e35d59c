"""What has arrived from one client: it is taken in parts, so that a flood leaves other clients their turn.

Mechanism: of what a wake-up brings, one part is taken at once, and the next ones when it is their turn
(`turns`). From a client without a caller also the first part waits when others like it have used up their
time. Until all parts are taken, nothing is read. Parts grow while they take less than a turn has, and shrink
when they take longer, since the work for some bytes depends on what they say.

Bound: the transport reads one buffer at a time, and what is left of it is kept.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter

from authsvc.rpc.lane.turns import Queues, Turns

# Bytes of a part, at first, at least and at most. A part is less than a buffer, so that no wake-up fills two.
_PART_BYTES, _MIN_PART_BYTES, _MAX_PART_BYTES = 4096, 512, 8192
# Where transports put what has arrived. It is copied at once, so one is enough for all connections.
_BUFFER = memoryview(bytearray(16 * 1024))


def _forget(_: bytes) -> None:
    """Take what is not looked at any more."""


class Reading:
    """Reads from one transport, unless it is paused."""

    def __init__(self, take: Callable[[bytes], None], queues: Queues, is_known: Callable[[], bool]) -> None:
        """Take what is called with each part, and what says whether a caller was authenticated."""
        self._take, self._queues, self._is_known = take, queues, is_known
        self._rest = bytearray()
        self._part_bytes = _PART_BYTES
        self._transport: asyncio.Transport | None = None
        self._is_paused = self._is_due = False

    @property
    def is_behind(self) -> bool:
        """Whether parts of what has arrived are not taken yet."""
        return bool(self._rest)

    def begin(self, transport: asyncio.Transport) -> None:
        """Read from a transport."""
        self._transport = transport

    def take(self, size: int) -> None:
        """Take a first part of so many bytes in the buffer, unless others come first."""
        data, turns = bytes(_BUFFER[:size]), self._turns()
        if self._rest or (turns is self._queues.strangers and turns.are_taken):
            self._rest += data
            self._look()
            return
        if len(data) > self._part_bytes:
            self._rest += data
            data = self._part()
        seconds = self._timed(data, turns)
        if turns is self._queues.strangers:
            turns.spend(seconds)

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

    def lost(self) -> None:
        """Drop what is left, and whatever refers to a connection that is lost."""
        self._rest.clear()
        self._transport, self._take = None, _forget

    def _turns(self) -> Turns:
        return self._queues.callers if self._is_known() else self._queues.strangers

    def _part(self) -> bytes:
        part = bytes(self._rest[: self._part_bytes])
        del self._rest[: self._part_bytes]
        self._look()
        return part

    def _timed(self, data: bytes, turns: Turns) -> float:
        """Take a part, and return the seconds that it took."""
        size, begun = self._part_bytes, perf_counter()
        self._take(data)
        seconds = perf_counter() - begun
        if seconds > turns.seconds:
            self._part_bytes = max(size // 2, _MIN_PART_BYTES)
        elif len(data) == size:
            self._part_bytes = min(size * 2, _MAX_PART_BYTES)
        return seconds

    def _look(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._rest or self._is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        if self._rest and not (self._is_paused or self._is_due):
            self._is_due = True
            self._turns().ask(self._next)

    def _next(self) -> None:
        self._is_due = False
        if self._rest and not self._is_paused:
            self._timed(self._part(), self._turns())


class Reader(asyncio.BufferedProtocol):
    """A protocol that has a `Reading`."""

    reading: Reading

    def get_buffer(self, _: int) -> memoryview:
        """Return where to put what has arrived."""
        return _BUFFER

    def buffer_updated(self, size: int) -> None:
        """Take what one wake-up has brought, now or in parts."""
        self.reading.take(size)
