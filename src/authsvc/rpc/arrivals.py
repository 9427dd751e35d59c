"""Messages of calls that are being received.

Until a message is read, gRPC takes no more of it than one flow-control window. Once it is read, gRPC takes
and keeps all of it. So a message is read only when its sender is known and has room for it.

Bound: a fixed number of messages of each account is read at a time, and a fixed number of calls waits for
their turn. A message has `MAX_ARRIVAL_SECONDS` seconds to arrive, give or take one look. The server limits
its size.
"""

import asyncio
from collections import deque
from typing import Any, Protocol, cast

import grpc

from authsvc.entrance.gate import full
from authsvc.model.errors import FieldViolation, InvalidArgument, Unavailable
from authsvc.verify.clock import Stopwatch

# Seconds that a message has to arrive.
MAX_ARRIVAL_SECONDS = 10.0
# Seconds until gRPC has told us that a client has cancelled a call.
_GIVEN_UP_SECONDS = 0.05


class _Context(Protocol):
    async def read(self) -> Any: ...


class Arrivals:
    """Reads the messages of calls."""

    def __init__(self, max_arriving: int, max_waiting: int, now: Stopwatch) -> None:
        """Take how many messages of an account are read at a time, and how many of its calls may wait."""
        self._now = now
        self._max_arriving, self._max_waiting = max_arriving, max_waiting
        self._arriving: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        # Calls whose message is being received; the one that waits longest comes first.
        self._since: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        #: How many calls were refused because too many of their account waited.
        self.refused = 0

    async def message(self, context: _Context, account: str) -> bytes:
        """Return the message of a call.

        Raises InvalidArgument for a call without a message, Overloaded (IN_FLIGHT_LIMIT) when too many calls
        of the account wait, and Unavailable (MESSAGE_LATE) for a message that does not arrive in time.
        """
        try:
            message = await self.next(context, account)
        except TimeoutError:
            raise Unavailable(
                f"the message of this call did not arrive within {MAX_ARRIVAL_SECONDS:g} s; send it again",
                reason="MESSAGE_LATE",
                retry_after=1,
            ) from None
        if message is None:
            # A call that was cancelled has no message either, and is ended during this pause.
            await asyncio.sleep(_GIVEN_UP_SECONDS)
            raise InvalidArgument(FieldViolation("", "request.present", "the call has no message; send one"))
        return message

    async def next(self, context: _Context, account: str) -> bytes | None:
        """Return the next message of a stream, None at its end; raise TimeoutError for one that is late."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._since[task] = self._now()
        try:
            arriving = self._arriving.get(account, 0)
            if arriving < self._max_arriving:
                self._arriving[account] = arriving + 1
            else:
                await self._room(account)
            try:
                message = await context.read()
            finally:
                self._leave(account)
        except asyncio.CancelledError:
            if task in self._late and not task.uncancel():
                raise TimeoutError from None
            raise
        finally:
            del self._since[task]
            self._late.discard(task)
        return None if message is grpc.aio.EOF else message

    def expire(self) -> None:
        """End the calls whose messages are late."""
        begun = self._now() - MAX_ARRIVAL_SECONDS
        for task, since in self._since.items():
            if since > begun:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()

    async def _room(self, account: str) -> None:
        """Wait until a message of the account has arrived, and take over its place."""
        waiting = self._waiting.setdefault(account, deque())
        if len(waiting) >= self._max_waiting:
            self.refused += 1
            raise full("of one owner's ")
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(account)
            raise

    def _leave(self, account: str) -> None:
        """Hand a place over to the next call that waits, or give it back."""
        while waiting := self._waiting.get(account):
            turn = waiting.popleft()
            if not waiting:
                del self._waiting[account]
            if not turn.done():
                turn.set_result(None)
                return
        left = self._arriving.pop(account) - 1
        if left:
            self._arriving[account] = left
