"""The calls of a connection whose headers have arrived, but not yet their whole message.

Mechanism: a message that comes in another segment than the headers has a moment to arrive. Until then its
call can be answered at once, which costs less than a task. The moment lasts until what has arrived is taken:
a busy process looks at its timers before it reads, and takes what it reads in parts.

Bound: the number of streams of a connection.
"""

import asyncio
from collections.abc import Callable

from authsvc.rpc.lane.reading import Reading
from authsvc.rpc.lane.stream import Stream

_SECONDS = 0.005


class Incomplete:
    """Begins the tasks of calls whose message has not arrived in its moment."""

    def __init__(self, reading: Reading) -> None:
        self._loop = asyncio.get_running_loop()
        self._reading = reading
        self._calls: list[tuple[Stream, Callable[[Stream], None]]] = []
        #: Whether the moment is over, so that `end` is to be called when more was taken.
        self.is_overdue = False

    def __bool__(self) -> bool:
        """Return whether there are such calls."""
        return bool(self._calls)

    def add(self, stream: Stream, begin: Callable[[Stream], None]) -> None:
        """Give the message of a call a moment to arrive; then `begin` its task."""
        if not self._calls:
            self._loop.call_later(_SECONDS, self._read_first)
        self._calls.append((stream, begin))

    def end(self) -> None:
        """Begin the tasks, unless messages may be in what is not taken yet."""
        self.is_overdue = self._reading.is_behind
        if self.is_overdue:
            return
        calls, self._calls = self._calls, []
        for stream, begin in calls:
            if stream.is_new and not stream.is_closed:
                begin(stream)

    def _read_first(self) -> None:
        # The second call comes after the loop has looked at its sockets.
        self._loop.call_soon(self._loop.call_soon, self.end)
