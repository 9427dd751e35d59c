"""What is to be sent on a stream, in its order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from authsvc.v1 import holder_service_pb2 as pb


class Outbox:
    """Messages that wait to be sent: an iterator for gRPC, which ends after `close`.

    The stream ends when nothing was answered for the length of a sub-lease, which bounds what waits.
    """

    def __init__(self) -> None:
        self._waiting: deque[pb.FollowRequest] = deque()
        self._is_closed = False
        self._changed = asyncio.Event()

    def put(self, request: pb.FollowRequest) -> None:
        """Send a message after all others."""
        self._waiting.append(request)
        self._changed.set()

    def confirm(self, number: int) -> None:
        """Say that everything up to a number is carried out. One message says it for several of them."""
        if self._waiting and self._waiting[-1].HasField("confirm"):
            self._waiting[-1].confirm.number = number
        else:
            self.put(pb.FollowRequest(confirm=pb.FollowRequest.Confirm(number=number)))

    def close(self) -> None:
        """Send nothing after what waits."""
        self._is_closed = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[pb.FollowRequest]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._is_closed:
                return
            self._changed.clear()
            await self._changed.wait()
