"""What a gRPC call holds."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from authsvc.entrance.admission import Admission
from authsvc.entrance.entrance import Entrance
from authsvc.entrance.incoming_call import IncomingCall, loggable
from authsvc.entrance.limits import account_of
from authsvc.entrance.operation import Operation
from authsvc.model.caller import Caller
from authsvc.model.errors import AuthsvcError
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.confirmation import Trailers, confirmation_trailers
from authsvc.rpc.context import Context
from authsvc.rpc.status import status_of
from authsvc.telemetry.current_call import REQUEST_ID, named
from authsvc.telemetry.observer import Chosen

_log = logging.getLogger(__name__)


class Call:
    """What a call holds until gRPC has sent its answer, or given it up: its admission, and its bytes."""

    __slots__ = (
        "_bounds",
        "_context",
        "_has_answer",
        "_operation",
        "_trailers",
        "account",
        "admission",
        "chosen",
        "current",
        "delivered",
        "incoming",
        "peer",
    )

    def __init__(
        self,
        entrance: Entrance,
        bounds: Bounds,
        operation: Operation,
        context: Context,
        incoming: IncomingCall,
    ) -> None:
        self._bounds, self._context, self._operation = bounds, context, operation
        self._has_answer = False
        self._trailers: Trailers = ()
        #: The call before it is authenticated.
        self.incoming = incoming
        #: The call as log lines name it.
        self.current = named(loggable(incoming.request_id))
        #: Whether it is logged and traced, where calls are observed.
        self.chosen = Chosen.NOTHING
        self.admission = Admission(entrance, operation)
        #: The connection, as gRPC names it.
        self.peer = context.peer()
        #: Whose the answer is; "" while that is not known.
        self.account = ""
        #: The function that is told whether the answer was sent, if there is one.
        self.delivered: Callable[[bool], object] | None = None
        context.add_done_callback(self._over)
        bounds.connections.begin(self)

    @property
    def headers(self) -> Iterable[tuple[str, str | bytes]]:
        """The headers of the call that the transport has kept."""
        return self._context.invocation_metadata() or ()

    @property
    def is_late(self) -> bool:
        """Whether the deadline of its caller has passed."""
        return self._context.time_remaining() == 0

    async def answer(self, answer: bytes) -> bytes | None:
        """Hand an answer over to the transport; return it unless it was sent here."""
        self._answers(len(answer))
        if not self._operation.is_verification:
            self._context.set_trailing_metadata((*self._trailers, *self._id_trailers()))
        if self.delivered is None:
            return answer
        try:
            await self._context.write(answer)
        except BaseException:
            self.delivered(False)
            raise
        self.delivered(True)
        return None

    def tell_confirmation(self, caller: Caller) -> None:
        """Say after the answer what the change of a caller waited for, if it did."""
        self._trailers = confirmation_trailers(caller)

    def end(self) -> None:
        """Note that a stream has ended, without an error."""
        self._answers()

    async def refuse(self, error: AuthsvcError) -> None:
        """End the call by the status of an error, if the client is still there. Raises what gRPC raises."""
        await self.admission.refuse(error)
        trailers: Trailers = ()
        if (caller := self.admission.caller) is not None:
            self.account = account_of(caller) or self.peer
            trailers = confirmation_trailers(caller)
        trailers = (*trailers, *self._id_trailers())
        self._answers()
        try:
            await self._context.abort_with_status(status_of(error, trailers))
        except grpc.aio.AbortError:
            raise
        except grpc.aio.BaseError:
            self._has_answer = False
            raise

    async def fail(self) -> None:
        """Log the error that is being handled, and end the call by INTERNAL, without a word on the cause."""
        self._operation.count_error(grpc.StatusCode.INTERNAL.name)
        _log.exception("unexpected error in %s", self._operation.name)
        self._answers()
        self._context.set_trailing_metadata(self._id_trailers())
        await self._context.abort(grpc.StatusCode.INTERNAL, "internal error; see the log of the service")

    def _id_trailers(self) -> Trailers:
        """Return the id of the call, by which whoever asks about it finds it in the log."""
        text = self.current.request_id
        return ((REQUEST_ID, text),) if text.isascii() else ()

    def _answers(self, size: int = 0) -> None:
        """Count an answer of `size` bytes as handed over."""
        self._has_answer = True
        self._bounds.answers.begin(self, self.peer, self.account, size)

    def _over(self, _: Any) -> None:
        self._bounds.answers.end(self)
        self._bounds.connections.end(self)
        if not self._has_answer:
            self._bounds.connections.broken(self.peer)
        self.admission.leave()
