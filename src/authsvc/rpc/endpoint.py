"""The endpoint of every RPC that needs a caller.

entrance (gate, authentication, limits, scope) → read → parse → validate → use case → bytes; errors become
statuses. There are no interceptors, since each would cost every VerifyKey.

A message is read when its sender is known: otherwise anonymous clients could have us keep as many messages as
there are streams. A transport that has a whole message anyway asks `at_once`, which answers verifications
from memory.
"""

import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from authsvc.entrance.entrance import Entrance
from authsvc.entrance.incoming_call import IncomingCall
from authsvc.entrance.limits import account_of
from authsvc.entrance.operation import Operation
from authsvc.model.caller import Caller
from authsvc.model.errors import AuthsvcError
from authsvc.rpc.answer_size import refuse_too_large
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.call import Call
from authsvc.rpc.context import Context, WholeCall, incoming_call
from authsvc.rpc.rpc import Rpc
from authsvc.telemetry.current_call import answering

# A message, or the bytes of a message of another protocol.
Answer = TypeVar("Answer", Message, bytes)
Method = Callable[[Caller, Any], Awaitable[Answer]]
# Returns the serialized answer of a verification if memory has it, otherwise None.
Recall = Callable[[Caller, Any], bytes | None]


# Of a request and its answer.
Delivery = Callable[[Message, Message], Callable[[bool], object]]


class Endpoint(Generic[Answer]):
    """One RPC, over any transport."""

    def __init__(
        self,
        operation: Operation,
        parse: Callable[[bytes], Any],
        serve: Method[Answer],
        serialize: Callable[[Answer], bytes],
        entrance: Entrance,
        bounds: Bounds,
        *,
        recall: Recall | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        self._operation = operation
        self._parse = parse
        self._serve: Method[Answer] = serve
        self._serialize: Callable[[Answer], bytes] = serialize
        self._entrance, self._bounds = entrance, bounds
        self._recall, self._delivery = recall, delivery

    def rpc(self, service: str) -> Rpc:
        """Return what a transport serves as an RPC of this service."""
        return Rpc(
            f"/{service}/{self._operation.name}",
            self.handle,
            # To learn whether its answer was sent, an endpoint sends it itself.
            writes=self._delivery is not None,
            at_once=None if self._recall is None else self.at_once,
        )

    async def handle(self, _: object, context: Context) -> bytes | None:
        """Return the answer to a call; None if it was sent already."""
        call = self._begun(context)
        return await self._ended(call, partial(self._read, call, context), time.perf_counter())

    def _begun(self, context: Context) -> Call:
        incoming = incoming_call(
            context, context.peer(), self._bounds.stopwatch, with_deadline=self._operation.has_deadline
        )
        return Call(self._entrance, self._bounds, self._operation, context, incoming)

    def at_once(self, context: WholeCall, data: bytes) -> bytes | Coroutine[Any, Any, bytes | None]:
        """Return the answer to a call if memory has it; otherwise what has to be awaited, as by `handle`.

        For verifications whose whole message has arrived. Nothing is awaited between the look at the lease,
        which comes last, and the answer.
        """
        started = time.perf_counter()
        entrance, peer, caller = self._entrance, context.peer(), None
        incoming = incoming_call(context, peer, self._bounds.stopwatch, with_deadline=False)
        try:
            entrance.gate.check()
            caller = entrance.authentication.recall(incoming)
            if caller is None:
                return self.handle(None, context)
            self._bounds.connections.known(peer)
            account = context.account = account_of(caller) or peer
            self._operation.check_scopes(caller)
            request = self._parse(data)
            answer = self._recall(caller, request)  # type: ignore[misc]  # see `rpc`
            self._bounds.answers.check(account, 0 if answer is None else len(answer))
        except Exception as error:  # noqa: BLE001 - answered like those of `handle`
            call = self._resumed(context, incoming, caller, inside=False)
            return self._ended(call, partial(_raised, error), started)
        if answer is None:
            call = self._resumed(context, incoming, caller, inside=True)
            return self._ended(call, partial(self._served, call, caller, request), started)
        self._operation.observe(time.perf_counter() - started)
        return answer

    def _resumed(
        self, context: WholeCall, incoming: IncomingCall, caller: Caller | None, *, inside: bool
    ) -> Call:
        """Return a call that `at_once` has begun, and which has to wait."""
        call = Call(self._entrance, self._bounds, self._operation, context, incoming)
        call.admission.resume(incoming, caller, inside=inside)
        call.account = context.account
        return call

    async def _read(self, call: Call, context: Context) -> bytes:
        """Let a call in, and answer it."""
        admission, bounds = call.admission, self._bounds
        caller = admission.enter(call.incoming) or await admission.authenticate(call.incoming)
        if not caller.is_stranger:
            bounds.connections.known(call.peer)
        call.account = account_of(caller) or call.peer
        bounds.answers.check(call.account)
        admission.authorize(caller)
        request = self._parse(await bounds.arrivals.message(context, call.account))
        if self._recall is not None and (answer := self._recall(caller, request)) is not None:
            bounds.answers.check(call.account, len(answer))
            return answer
        return await self._served(call, caller, request)

    async def _served(self, call: Call, caller: Caller, request: Any) -> bytes:
        message = await self._serve(caller, request)
        call.tell_confirmation(caller)
        if self._delivery is not None:
            call.delivered = self._delivery(request, message)  # type: ignore[arg-type]  # no RPC of bytes has one
        answer = self._serialize(message)
        if not self._operation.changes:
            # A change is done, and is answered however much its caller leaves unread.
            refuse_too_large(len(answer))
            self._bounds.answers.check(call.account, len(answer))
        return answer

    async def _ended(self, call: Call, work: Callable[[], Awaitable[bytes]], started: float) -> bytes | None:
        """End a call by the answer that its work returns, or by the status of its error."""
        with answering(call.current):
            try:
                answer = await work()
            except AuthsvcError as error:
                await call.refuse(error)
            except Exception:  # noqa: BLE001 - the client gets a status, whatever happens
                await call.fail()
            else:
                return await call.answer(answer)
            finally:
                del work  # which may hold the error, whose traceback holds this frame
                self._operation.observe(time.perf_counter() - started)
        raise AssertionError("abort always raises")


async def _raised(error: Exception) -> bytes:
    try:
        raise error
    finally:
        del error  # its traceback has this frame, and would keep both until a garbage collection
