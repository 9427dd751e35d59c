"""What a gRPC call holds."""

from typing import Any

import grpc

from authsvc.entrance.admission import Admission
from authsvc.entrance.entrance import Entrance
from authsvc.entrance.operation import Operation
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.context import Context


class Call:
    """What a call holds until gRPC has sent its answer, or given it up: its admission, and its bytes."""

    __slots__ = ("_bounds", "_context", "_has_answer", "admission", "peer")

    def __init__(self, entrance: Entrance, bounds: Bounds, operation: Operation, context: Context) -> None:
        self._bounds, self._context = bounds, context
        self._has_answer = False
        self.admission = Admission(entrance, operation)
        #: The connection, as gRPC names it.
        self.peer = context.peer()
        context.add_done_callback(self._over)  # type: ignore[arg-type]  # the stub's is no protocol
        bounds.connections.begin(self)

    def answers(self, account: str, size: int = 0) -> None:
        """Hand an answer of `size` bytes over to gRPC."""
        self._has_answer = True
        self._bounds.answers.begin(self, self.peer, account, size)

    async def refuse(self, status: grpc.Status) -> None:
        """End the call by a status, if the client is still there."""
        try:
            await self._context.abort_with_status(status)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.BaseError:
            self._has_answer = False
            raise

    def _over(self, _: Any) -> None:
        self._bounds.answers.end(self)
        self._bounds.connections.end(self)
        if not self._has_answer:
            self._bounds.connections.broken(self.peer)
        self.admission.leave()
