"""Endpoints whose calls are observed, for the access log and for traces.

They are built where one of these is on. A verification that is observed is not answered at once but as a
task, so that there is one place where calls end.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2

from authsvc.entrance.code import code_name, code_of
from authsvc.model.errors import AuthsvcError
from authsvc.rpc.call import Call
from authsvc.rpc.context import Context, WholeCall
from authsvc.rpc.endpoint import Answer, Endpoint
from authsvc.rpc.rpc import Rpc
from authsvc.telemetry.observer import Chosen, Observation, Observer

# Returns what a serialized answer says of a credential, such as REVOKED; "" if it is not about one.
ReadVerdict = Callable[[bytes], str]
_PREFIX = "VERDICT_CODE_"


class ObservedEndpoint(Endpoint[Answer]):
    """One RPC, over any transport, whose calls are observed."""

    def observe(self, observer: Observer, read_verdict: ReadVerdict) -> None:
        """Take what observes calls; before the first one."""
        self._observer, self._read_verdict, self._service = observer, read_verdict, ""

    def rpc(self, service: str) -> Rpc:
        """Return what a transport serves as an RPC of this service."""
        self._service = service
        return super().rpc(service)

    async def handle(self, _: object, context: Context) -> bytes | None:
        """Return the answer to a call; None if it was sent already."""
        return await self._handle(context, self._choose(context))

    def at_once(self, context: WholeCall, data: bytes) -> bytes | Coroutine[Any, Any, bytes | None]:
        """Return the answer to a call if memory has it and it is not observed; otherwise what is awaited."""
        chosen = self._choose(context)
        return self._handle(context, chosen) if chosen else super().at_once(context, data)

    def _choose(self, context: Context) -> Chosen:
        if not self._operation.is_verification:
            return Chosen.ALL
        return self._observer.choose(
            context.invocation_metadata() or (), is_known=self._is_known(context.peer())
        )

    def _is_known(self, peer: str) -> bool:
        return self._bounds.connections.is_known(peer)

    async def _handle(self, context: Context, chosen: Chosen) -> bytes | None:
        call = self._begun(context)
        call.chosen = chosen
        return await self._ended(call, partial(self._read, call, context), time.perf_counter())

    async def _ended(self, call: Call, work: Callable[[], Awaitable[bytes]], started: float) -> bytes | None:
        """End a call, and observe that."""
        with self._observer.observed(
            self._service,
            self._operation.name,
            call.current,
            call.headers,
            call.chosen,
            is_known=self._is_known(call.peer),
        ) as observation:
            try:
                return await super()._ended(call, partial(self._noted, call, work, observation), started)
            except asyncio.CancelledError:
                if not observation.outcome.number:
                    _note_end(observation, call)
                raise
            finally:
                observation.outcome.caller = call.admission.caller

    async def _noted(
        self, call: Call, work: Callable[[], Awaitable[bytes]], observation: Observation
    ) -> bytes:
        outcome = observation.outcome
        try:
            answer = await work()
        except AuthsvcError as error:
            number = code_of(error)
            outcome.fail(number, code_name(number), error.reason)
            raise
        except Exception:
            outcome.fail(code_pb2.INTERNAL, "INTERNAL")
            raise
        finally:
            observation.waited(call.admission.caller)
        outcome.size, outcome.verdict = len(answer), self._read_verdict(answer)
        return answer


def _note_end(observation: Observation, call: Call) -> None:
    """Note that nobody waits for the answer any more."""
    number = code_pb2.DEADLINE_EXCEEDED if call.is_late else code_pb2.CANCELLED
    observation.outcome.fail(number, code_name(number))


def verdict_reader(answer: Descriptor) -> ReadVerdict:
    """Return what reads the verdict of an answer of this type."""
    field = answer.fields_by_name.get("code")
    if field is None or field.enum_type is None or field.enum_type.name != "VerdictCode":
        return lambda _: ""
    answer_type: Any = GetMessageClass(answer)
    names = field.enum_type.values_by_number
    return lambda data: names[answer_type.FromString(data).code].name.removeprefix(_PREFIX)
