"""What a call holds."""

from typing import Any

import grpc

from authsvc.model.caller import Caller
from authsvc.rpc.entrance import Context, Entrance


class Call:
    """What a call holds until gRPC has sent its answer, or given it up: its room, its share, its bytes."""

    __slots__ = ("_context", "_counted", "_entered", "_entrance", "_slow", "_told", "peer")

    def __init__(self, entrance: Entrance, context: Context) -> None:
        self._entrance, self._context = entrance, context
        self._entered = self._slow = self._told = False
        self._counted = ""
        self.peer = context.peer()

    def enter(self, slow: bool) -> None:
        """Take a place in the gate."""
        self._context.add_done_callback(self._over)  # type: ignore[arg-type]  # the stub's is no protocol
        self._entrance.gate.enter(self, slow=slow)
        self._entered, self._slow = True, slow

    def count(self, caller: Caller) -> None:
        """Count as one of the caller's."""
        self._counted = self._entrance.limits.enter(caller)

    def answers(self, account: str, size: int = 0) -> None:
        """Hand an answer over."""
        self._told = True
        self._entrance.answers.begin(self, self.peer, account, size)

    async def refuse(self, status: grpc.Status) -> None:
        """End the call by a status, if the client is still there."""
        try:
            await self._context.abort_with_status(status)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.BaseError:
            self._told = False
            raise

    def leave(self) -> None:
        """Let go of the place, and of the share."""
        if self._counted:
            self._entrance.limits.leave(self._counted)
            self._counted = ""
        if self._entered:
            self._entered = False
            self._entrance.gate.leave(self, slow=self._slow)

    def _over(self, _: Any) -> None:
        self._entrance.answers.end(self)
        if not self._told:
            self._entrance.connections.broken(self.peer)
        self.leave()
