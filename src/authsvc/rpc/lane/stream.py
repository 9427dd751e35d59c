"""One call: a stream of HTTP/2, and the context that endpoints see (`rpc.context`)."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from authsvc.rpc.lane import head, message

if TYPE_CHECKING:
    from authsvc.rpc.lane.connection import Connection

_log = logging.getLogger(__name__)


class Stream:
    """A call from its headers on, until its answer is sent, or it is given up.

    Most calls are answered at once, and never have a task; what only a task needs is set when it begins.
    """

    #: Whose the answer is; set by `Endpoint.at_once`.
    account = ""
    #: Whether the client has sent all of its request.
    is_ended = False
    #: Whether it was answered at once, so that nothing is held for it.
    is_whole = False
    #: Whether nothing more can be sent to the client.
    is_closed = False
    #: Whether the stream was answered: a status was submitted.
    is_answered = False
    #: Whether it is a stream that may last longer than a connection does otherwise.
    lasts = False
    #: Bytes of the answer.
    size = 0
    #: Bytes of data that the client may not send again yet.
    held = 0
    #: What was received, and not read.
    received: bytearray | None = None
    _callbacks: tuple[Callable[[Any], None], ...] = ()
    _task: "asyncio.Task[None] | None" = None
    # What the task is to do, until it has begun.
    _work: "Coroutine[Any, Any, bytes | None] | None" = None
    _deadline: asyncio.TimerHandle | None = None
    _waiter: "asyncio.Future[None] | None" = None
    _reads = False
    _ends = 0.0
    _has_headers = False
    _trailing: head.Metadata = ()

    def __init__(self, connection: "Connection", number: int, request: head.Head) -> None:
        self.connection, self.number, self.head = connection, number, request

    def begin(self, work: Coroutine[Any, Any, bytes | None]) -> None:
        """Answer by what has to be awaited, as a task; end it at the deadline of the caller."""
        loop = asyncio.get_running_loop()
        self._work, self._task = work, loop.create_task(self._run(work))
        self._task.add_done_callback(self._over)
        if (left := head.seconds(self.head.timeout)) is not None:
            self._deadline = loop.call_later(left, self._expire)
            self._ends = loop.time() + left

    @property
    def is_new(self) -> bool:
        """Whether it has neither an answer nor a task."""
        return self._task is None and not self.is_answered

    @property
    def is_noted(self) -> bool:
        """Whether it was answered, or others hold something for it, and are told when it ends."""
        return self.is_answered or bool(self._callbacks)

    def data(self, data: bytes, *, ends: bool) -> None:
        """Take data of the request for the task."""
        self.is_ended |= ends
        if self.received:
            self.received += data
        else:
            self.received = bytearray(data)
        self.held += len(data)
        if self._reads:
            self.connection.allow(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Give up the call, if it is not answered: it is closed, or its connection is lost."""
        self.is_closed = True
        if self._task is None or self._task.done():
            self._over(None)
        elif not self.is_answered:
            self._task.cancel()

    def answer(self, answer: bytes) -> None:
        """Send the only message of the answer, and the status OK."""
        trailers = head.ok(self._trailing) if self._trailing else head.OK
        self.connection.wire.answer(self.number, message.framed(answer), trailers)
        self.is_answered, self.size = True, len(answer)

    def end(self, code: grpc.StatusCode, details: str, metadata: head.Metadata = ()) -> None:
        """End the call by a status; does nothing if it has one already."""
        if self.is_closed or self.is_answered:
            return
        trailers = head.status(code, details, metadata + self._trailing)
        if self._has_headers:
            self.connection.wire.trailers(self.number, trailers)
            self.is_answered = True
            self.connection.answered(self)
        else:
            self.end_by(head.only_status(trailers))

    def end_by(self, headers: head.Answer) -> None:
        """End the call by an answer that has only headers."""
        self.connection.wire.headers(self.number, headers, ends=True)
        self.is_answered = True
        self.connection.answered(self)

    # The context.

    def peer(self) -> str:
        """See `rpc.context.Context`."""
        return self.connection.peer

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """See `rpc.context.Context`."""
        return self.head.metadata

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """See `rpc.context.Context`."""
        return self.connection.auth_context

    def time_remaining(self) -> float | None:
        """See `rpc.context.Context`."""
        return None if self._deadline is None else max(0.0, self._ends - asyncio.get_running_loop().time())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """See `rpc.context.Context`."""
        self._callbacks = (*self._callbacks, callback)

    def set_trailing_metadata(self, metadata: head.Metadata) -> None:
        """See `rpc.context.Context`."""
        self._trailing = metadata

    async def read(self) -> Any:
        """See `rpc.context.Context`."""
        self._reads = True
        self.connection.allow(self)
        while True:
            try:
                found = message.take(self.received or bytearray(), self.head.encoding)
            except message.Refused as refusal:
                self.end(refusal.code, refusal.message)
                raise asyncio.CancelledError from refusal
            if found is not None:
                self._reads = False
                return found
            if self.is_ended:
                return grpc.aio.EOF
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def write(self, data: bytes) -> None:
        """See `rpc.context.Context`."""
        self._check_open()
        wire = self.connection.wire
        if not self._has_headers:
            wire.headers(self.number, head.ANSWER)
            self._has_headers = True
        wire.data(self.number, message.framed(data))
        await wire.drained(self.number)

    async def abort(self, code: grpc.StatusCode, details: str = "") -> Any:
        """See `rpc.context.Context`."""
        self._check_open()
        self.end(code, details)
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: grpc.Status) -> Any:
        """See `rpc.context.Context`."""
        self._check_open()
        self.end(status.code, status.details, tuple(status.trailing_metadata or ()))
        raise grpc.aio.AbortError

    def _check_open(self) -> None:
        if self.is_closed or self.is_answered:
            raise grpc.aio.UsageError("the call has ended")

    async def _run(self, work: Coroutine[Any, Any, bytes | None]) -> None:
        self._work = None
        try:
            answer = await work
        except grpc.aio.BaseError:  # it has a status, or its client is gone
            return
        except Exception:  # noqa: BLE001 - the client gets a status, whatever happens
            _log.exception("unexpected error in %s", self.head.path)
            self.end(grpc.StatusCode.UNKNOWN, "internal error; see the log of the service")
            return
        if self.is_closed or self.is_answered:
            return
        if answer is not None:
            self.answer(answer)
            self.connection.answered(self)
        else:
            self.end(grpc.StatusCode.OK, "")

    def _expire(self) -> None:
        self.end(grpc.StatusCode.DEADLINE_EXCEEDED, head.LATE)
        if self._task is not None:
            self._task.cancel()

    def _over(self, _: object) -> None:
        """Tell those that hold something for the call, once it is closed and its task has ended."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None and not (self.is_closed or self.is_answered):
            self.end(grpc.StatusCode.UNKNOWN, "the call was given up")
        if self._work is not None:  # the call ended before its task began
            self._work.close()
        if self.is_closed and (self._task is None or self._task.done()):
            self._task = self._work = None  # a task that was cancelled refers to us by its traceback
            callbacks, self._callbacks = self._callbacks, ()
            for callback in callbacks:
                callback(self)
