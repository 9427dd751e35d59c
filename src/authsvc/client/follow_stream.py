"""One stream of `HolderService/Follow`, from `join` to its end.

Mechanism: what arrives is carried out in its order, each message before the next is read, and with no await
within (R12 to R14 in docs/revocation.md). A sub-lease is asked for five times in its length. The stopwatch is
read before that, so the sub-lease counts from before the worker granted it. Uses are reported with each of
these messages, and are reported again on the next stream unless the grant shows that they arrived.

Failure: a message that breaks the protocol ends the stream, and so does a worker that has granted nothing for
the length of a sub-lease.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import grpc

from authsvc.client.held import KINDS, RULES, instant_of, seconds_of, uses_message
from authsvc.client.look_ups import LookUps
from authsvc.client.memory import Memory, Uses
from authsvc.client.outbox import Outbox
from authsvc.model.key_use import KeyUse
from authsvc.model.use import Use
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.verify.clock import Stopwatch
from authsvc.verify.usage import use_of

_log = logging.getLogger(__name__)
_RENEWALS = 5
_SHORTEST_LEASE_SECONDS, _LONGEST_LEASE_SECONDS = 0.1, 3600.0
# How long the worker may take to answer `join`, and to end the stream after the last message.
_JOIN_SECONDS, _GOODBYE_SECONDS = 5.0, 1.0
_MAX_ITEMS = 1000
_CLOSED = "the worker has closed the stream"

Call = grpc.aio.StreamStreamCall[pb.FollowRequest, pb.FollowResponse]
Follow = Callable[..., Call]


class StreamFault(Exception):
    """The stream has to end. `is_broken` says that the worker broke the protocol."""

    def __init__(self, message: str, *, is_broken: bool = False) -> None:
        super().__init__(message)
        self.is_broken = is_broken


class FollowStream:
    """Follows one worker. `run` is called once."""

    def __init__(
        self, memory: Memory, *, stopwatch: Stopwatch, pause: Callable[[float], Awaitable[object]]
    ) -> None:
        self._memory = memory
        self._stopwatch = stopwatch
        self._pause = pause
        self._outbox = Outbox()
        self.look_ups = LookUps(memory, self._outbox)
        self._lease = 0.0
        self._renewal = 0
        # When each sub-lease was asked for that is not granted yet, on the stopwatch.
        self._renewed: dict[int, float] = {}
        # Uses that were sent before a renewal that was not granted yet, with its number.
        self._reported: list[tuple[int, Uses]] = []
        self._is_leaving = False
        # Whether a sub-lease was granted on this stream.
        self.was_granted = False

    async def run(
        self, follow: Follow, metadata: tuple[tuple[str, str], ...], instance: str, capacity: int
    ) -> str:
        """Follow until the worker ends the stream; return its reason, or "" if the client has left.

        Raises AioRpcError when the stream fails, and StreamFault when this client gives it up.
        """
        # Before the worker can know of this stream: an earlier sub-lease counts for an earlier one (R12).
        self._memory.start(capacity)
        join = pb.FollowRequest.Join(instance=instance, capacity=capacity, rules=RULES)
        self._outbox.put(pb.FollowRequest(join=join))
        call = follow(self._outbox, metadata=metadata)
        try:
            await self._join(call, capacity)
            return await self._until_the_first_ends(self._carry_out(call), self._keep_renewing())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise StreamFault("gRPC has cancelled the stream") from None
        finally:
            call.cancel()
            # gRPC does not stop to read from it if the call has ended by itself.
            self._outbox.close()
            self.look_ups.close()
            for _, uses in self._reported:
                self._memory.keep_uses(uses)

    def leave(self) -> None:
        """Give up the sub-lease and everything that is held, and say so. The worker ends the stream then."""
        self._is_leaving = True
        self.look_ups.close()
        self._memory.end("the client was closed")
        self._renewal += 1
        self._report()
        self._outbox.put(pb.FollowRequest(leave=pb.FollowRequest.Leave()))
        self._outbox.close()

    async def _join(self, call: Call, capacity: int) -> None:
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                answer = await _read(call)
        except TimeoutError:
            raise StreamFault("the worker does not answer") from None
        if answer is None:
            raise StreamFault(_CLOSED)
        joined = answer.joined
        lease = seconds_of(joined.lease)
        if not answer.HasField("joined") or joined.capacity < 1 or lease < _SHORTEST_LEASE_SECONDS:
            raise StreamFault("the worker did not answer `join` as it should", is_broken=True)
        self._lease = min(lease, _LONGEST_LEASE_SECONDS)
        if joined.capacity < capacity:
            self._memory.start(joined.capacity)

    async def _until_the_first_ends(self, carrying_out: Awaitable[str], renewing: Awaitable[str]) -> str:
        tasks = [asyncio.ensure_future(carrying_out), asyncio.ensure_future(renewing)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task in done).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_renewing(self) -> str:
        while not self._is_leaving:
            self._renew()
            await self._pause(self._lease / _RENEWALS)
            # Counted, because this process may have been stopped for longer than that.
            if len(self._renewed) >= _RENEWALS:
                raise StreamFault("the worker has granted nothing for the length of a sub-lease")
        await self._pause(_GOODBYE_SECONDS)
        return ""

    def _renew(self) -> None:
        self._renewal += 1
        # Uses first: those of credentials that are not held any more are taken until the next renewal.
        self._report()
        self._release()
        # Before it is sent (R13). It may be sent much later.
        self._renewed[self._renewal] = self._stopwatch()
        self._outbox.put(pb.FollowRequest(renew=pb.FollowRequest.Renew(number=self._renewal)))

    def _release(self) -> None:
        released = self._memory.take_evicted(self.look_ups.prefixes)
        for start in range(0, len(released), _MAX_ITEMS):
            release = pb.FollowRequest.Release(key_prefixes=released[start : start + _MAX_ITEMS])
            self._outbox.put(pb.FollowRequest(release=release))

    def _report(self) -> None:
        """Send the uses since the last report. The next renewal that is granted shows that they arrived."""
        uses = self._memory.take_uses()
        noted: list[KeyUse | Use] = [*uses.keys, *map(use_of, uses.sessions)]
        if noted:
            self._reported.append((self._renewal, uses))
        for start in range(0, len(noted), _MAX_ITEMS):
            message = uses_message(noted[start : start + _MAX_ITEMS])
            self._outbox.put(pb.FollowRequest(uses=message))

    async def _carry_out(self, call: Call) -> str:
        while True:
            response = await _read(call)
            if response is None:
                if self._is_leaving:
                    self._reported.clear()
                    return ""
                raise StreamFault(_CLOSED)
            self.look_ups.hear()
            try:
                match response.WhichOneof("message"):
                    case "grant":
                        self._grant(response.grant)
                    case "held":
                        self.look_ups.take(response.held)
                    case "forget":
                        self._forget(response.forget)
                    case "end":
                        self._end(response.end)
                        await self._goodbye(call)
                        return response.end.reason or "no reason was given"
                    case other:
                        raise ValueError(f"an unexpected message: {other}")
            except (ValueError, OverflowError) as error:
                raise StreamFault(f"the worker broke the protocol: {error}", is_broken=True) from None

    def _grant(self, grant: pb.FollowResponse.Grant) -> None:
        asked = self._renewed.get(grant.number)
        if asked is None:
            raise ValueError("a grant that was not asked for")
        if not grant.HasField("now"):
            raise ValueError("a grant without the time")
        lease = min(seconds_of(grant.lease), self._lease)
        now = instant_of(grant.now)
        for number in [number for number in self._renewed if number <= grant.number]:
            del self._renewed[number]
        self._reported = [each for each in self._reported if each[0] > grant.number]
        if not self._is_leaving:
            if not self.was_granted:
                _log.info("credentials are verified in this process now, by a sub-lease of %g s", lease)
            self.was_granted = True
            self.look_ups.open()
            self._memory.grant(asked + lease, now, asked, self._stopwatch())

    def _forget(self, forget: pb.FollowResponse.Forget) -> None:
        # A kind that this client does not know is every kind.
        kind = KINDS.get(forget.kind)
        self._memory.forget(forget.key_prefixes, forget.owner_id, kind, everything=forget.everything)
        self._outbox.confirm(forget.number)

    def _end(self, end: pb.FollowResponse.End) -> None:
        self._memory.end("the worker has ended it")
        self.look_ups.close()
        self._renewal += 1
        self._report()
        self._outbox.confirm(end.number)
        self._outbox.close()
        self._is_leaving = True

    async def _goodbye(self, call: Call) -> None:
        """Wait until the worker has read everything and ends the stream."""
        with suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                while await _read(call) is not None:
                    pass
                self._reported.clear()


async def _read(call: Call) -> pb.FollowResponse | None:
    """Return the next message; None when the worker has ended the stream without an error."""
    response = await call.read()
    return response if isinstance(response, pb.FollowResponse) else None
