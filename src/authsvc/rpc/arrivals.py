"""The messages of calls that are on their way.

gRPC takes no more of a message than a window until somebody asks for it; then it takes all of it, and keeps what has
arrived until it is whole. So a message is asked for when it is known who sends it and that they have room for it.

Bounds: of one account so many messages are asked for at a time, and further ones wait. A message has so many seconds
to arrive. No message is larger than the server lets it be.
"""

import asyncio
from typing import Any, Protocol

import grpc

from authsvc.errors import FieldViolation, InvalidArgument, Unavailable
from authsvc.rpc.gate import full

# Seconds.
IN_TIME = 10.0
# Until gRPC has told us that a client has given a call up.
_GIVEN_UP = 0.05


class _Context(Protocol):
    async def read(self) -> Any: ...


class _Room:
    __slots__ = ("free", "users")

    def __init__(self, most: int) -> None:
        self.free = asyncio.Semaphore(most)
        self.users = 0


class Arrivals:
    """Reads the messages of calls."""

    def __init__(self, most: int, most_waiting: int) -> None:
        """Take how many messages of one account may be on their way, and how many calls wait to have theirs read."""
        self._most, self._most_waiting = most, most_waiting
        self._rooms: dict[str, _Room] = {}

    async def message(self, context: _Context, account: str) -> bytes:
        """Return the message of a call.

        Raises InvalidArgument for a call that ends without one, Overloaded when too many of the account wait,
        Unavailable for one that is late.
        """
        try:
            message = await self.next(context, account)
        except TimeoutError:
            raise Unavailable(
                f"the message of this call did not arrive within {IN_TIME:g} s; send it anew",
                reason="MESSAGE_LATE",
                retry_after=1,
            ) from None
        if message is None:
            # A call that was given up has no message either. Then this is as far as it gets.
            await asyncio.sleep(_GIVEN_UP)
            raise InvalidArgument(FieldViolation("", "request.present", "the call has no message; send one"))
        return message

    async def next(self, context: _Context, account: str) -> bytes | None:
        """Return the next message of a stream, None at its end; raise TimeoutError for one that is late."""
        if (room := self._rooms.get(account)) is None:
            room = self._rooms[account] = _Room(self._most)
        if room.users >= self._most_waiting:
            raise full("of one owner's ")
        room.users += 1
        try:
            async with asyncio.timeout(IN_TIME), room.free:
                message = await context.read()
        finally:
            room.users -= 1
            if not room.users:
                del self._rooms[account]
        return None if message is grpc.aio.EOF else message
