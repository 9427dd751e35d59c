"""One stream of a client that verifies in its own process, on the side of the worker that it follows.

Mechanism: what the client says is handled message by message. Whatever can be answered from memory is
answered in the same step; strings that have to be looked up are answered by tasks. What is to be sent waits
in a queue, in its order, so nothing waits for a client.

Bound: `_MAX_LOOK_UPS` look-ups at a time; `_MAX_QUEUED_BYTES` of messages. A client that reads more slowly
than it has to is cut off, and may answer until its sub-lease is over.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import grpc

from authsvc.model.address import normalized
from authsvc.model.caller import Caller
from authsvc.model.client_hints import ClientHints
from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.errors import AuthsvcError, FieldViolation, InvalidArgument, RetryableError
from authsvc.model.key_string import TAIL_LENGTH, KeyString
from authsvc.model.use import Use
from authsvc.revocation.client_holder import ClientHolder, Member
from authsvc.revocation.client_holders import ClientHolders
from authsvc.rpc.context import Context
from authsvc.rpc.convert import presented, set_timestamp
from authsvc.rpc.held_credential import KIND_NUMBERS, KINDS, held_credential, rules_for, set_seconds
from authsvc.rpc.holder_request import read
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.verify.verifier import Verifier

_MAX_LOOK_UPS = 100
_MAX_QUEUED_BYTES = 1024 * 1024
# Messages that are handled in one turn of the event loop.
_MAX_AT_ONCE = 16
# Seconds in which the last messages have to be sent.
_MAX_END_SECONDS = 2.0

_SCOPES = {CredentialKind.KEY: ("keys:verify",), CredentialKind.SESSION: ("sessions:verify",)}


class Following:
    """The stream; also the way to the client (`client_holder.ClientChannel`)."""

    def __init__(
        self,
        context: Context,
        clients: ClientHolders,
        verifier: Verifier,
        recall: Callable[[], Caller | None],
        judge: Callable[[], Awaitable[Caller]],
        rules: int = 0,
    ) -> None:
        """`judge` returns the caller as of now, and raises what it is refused by; `recall`, if memory can.

        `rules` are those that the client knows.
        """
        self._rules = rules
        self._context, self._clients, self._verifier = context, clients, verifier
        self._recall, self._judge = recall, judge
        self._client: ClientHolder
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._queued = asyncio.Event()
        self._closed = asyncio.Event()
        self._refusal: AuthsvcError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # The scopes that the caller had when it joined.
        self._scopes: frozenset[str] | None = None

    async def run(self, member: Member, capacity: int, seconds: float) -> None:
        """Serve the stream until one of both ends it, at most for so long; raise why a client is refused."""
        try:
            self._client = self._clients.join(self, member, capacity)
        except RetryableError as error:
            self._clients.refused[error.reason] += 1
            raise
        loop = asyncio.get_running_loop()
        age = loop.call_later(seconds, self._clients.end_one, self._client, "follow again by another stream")
        try:
            joined = pb.FollowResponse.Joined(capacity=self._client.capacity)
            set_seconds(joined.lease, self._clients.seconds)
            self._send(pb.FollowResponse(joined=joined))
            await self._serve()
        finally:
            age.cancel()
            for task in self._tasks:
                task.cancel()
            self._clients.lost(self._client)
        if self._refusal is not None:
            raise self._refusal

    async def _serve(self) -> None:
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        closing = asyncio.create_task(self._closed.wait())
        try:
            await asyncio.wait((reading, writing, closing), return_when=asyncio.FIRST_COMPLETED)
            self.close()
            # A client that does not read is not waited for.
            with suppress(TimeoutError):
                async with asyncio.timeout(_MAX_END_SECONDS):
                    await writing
            if reading.done():
                await reading
        finally:
            for task in (reading, writing, closing):
                task.cancel()
            # grpcio takes no status while it still reads or writes.
            await asyncio.gather(reading, writing, closing, return_exceptions=True)

    async def _read(self) -> None:
        """Handle what the client says, until it says no more."""
        handled = 0
        while (data := await self._context.read()) is not grpc.aio.EOF:
            handled += 1
            if not handled % _MAX_AT_ONCE:
                await asyncio.sleep(0)  # what has arrived is read without a wait, and others have their turn
            request = read(data)
            match request.WhichOneof("message"):
                case "renew":
                    self._renew(request.renew.number)
                case "hold":
                    self._hold(request.hold)
                case "confirm":
                    self._clients.confirm(self._client, request.confirm.number)
                case "uses":
                    self._note_uses(request.uses.uses)
                case "release":
                    self._client.holdings.release(request.release.key_prefixes)
                case "leave":
                    self._clients.leave(self._client)
                    return
                case _:
                    raise InvalidArgument(
                        FieldViolation("join", "request.first", "is the first message only")
                    )

    def _renew(self, number: int) -> None:
        try:
            caller = self._recall()
        except AuthsvcError as error:
            self._refuse(error)
            return
        if caller is None:
            self._begin(self._judge_and_renew(number))
        else:
            self._grant(caller, number)

    async def _judge_and_renew(self, number: int) -> None:
        try:
            caller = await self._judge()
        except AuthsvcError as error:
            self._refuse(error)
        else:
            self._grant(caller, number)

    def _grant(self, caller: Caller, number: int) -> None:
        """Grant a sub-lease, unless the caller has lost a scope by which it may have got what it holds."""
        scopes = frozenset(caller.scopes)
        if self._scopes is not None and not self._scopes <= scopes:
            self._clients.end_one(self._client, "the scopes of its caller have changed")
        else:
            self._scopes = scopes
            self._clients.renew(self._client, number)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, error: AuthsvcError) -> None:
        """Have the client give up what it holds, and end the stream by the status of an error then."""
        self._refusal = self._refusal or error
        self._clients.end_one(self._client, error.message)

    # Credentials.

    def _hold(self, asked: pb.FollowRequest.Hold) -> None:
        text, kind = presented(asked.credential), KINDS[asked.kind]
        try:
            caller = self._recall()
        except AuthsvcError as error:
            self._refuse(error)
            return
        is_full = self._queued_bytes > _MAX_QUEUED_BYTES // 2 or len(self._tasks) >= _MAX_LOOK_UPS
        if caller is None or caller.lacks(_SCOPES[kind]) or is_full:
            self._send_unanswered(asked.number)
        elif not isinstance(proved := self._verifier.prove(text), KeyString):
            self._send_held(asked.number, text, kind, proved)
        else:
            self._begin(self._look_up(asked.number, text, kind, caller))

    async def _look_up(self, number: int, text: str, kind: CredentialKind, caller: Caller) -> None:
        try:
            credential = await self._verifier.identify(text, caller)
        except AuthsvcError:
            self._send_unanswered(number)
        else:
            self._send_held(number, text, kind, credential)

    def _send_held(self, number: int, text: str, kind: CredentialKind, credential: Credential | None) -> None:
        """Send what memory has for a string (R12). Nothing may be awaited since the look there."""
        if not self._verifier.may_answer:
            self._send_unanswered(number)
            return
        held = pb.FollowResponse.Held(number=number)
        if credential is not None and credential.kind is kind:
            # Clients know a credential by the beginning of its string, which is not so for an imported key.
            is_understood = rules_for(credential) <= self._rules and not credential.look_up
            if not is_understood or not self._clients.hold(self._client, text[:-TAIL_LENGTH], credential):
                self._send_unanswered(number)
                return
            held.credential.CopyFrom(held_credential(credential))
        self._send(pb.FollowResponse(held=held))

    def _send_unanswered(self, number: int) -> None:
        self._send(pb.FollowResponse(held=pb.FollowResponse.Held(number=number, unanswered=True)))

    def _note_uses(self, uses: Iterable[pb.FollowRequest.Use]) -> None:
        for use in uses:
            if (held := self._client.holdings.find(use.credential_id)) is not None:
                self._verifier.note_use(
                    held.kind,
                    held.owner_id,
                    held.key_prefix,
                    Use(
                        use.credential_id,
                        use.use_time.ToDatetime(tzinfo=UTC),
                        normalized(use.client_ip),
                        use.user_agent,
                        ClientHints.of_message(use.client_hints),
                    ),
                    verifier_id=self._client.member.credential_id,
                    uses=use.uses or 1,
                )

    # The way to the client.

    def grant(self, number: int, seconds: float, now: datetime) -> None:
        """See `ClientChannel`."""
        grant = pb.FollowResponse.Grant(number=number)
        set_seconds(grant.lease, seconds)
        set_timestamp(grant.now, now)
        self._send(pb.FollowResponse(grant=grant))

    def forget(
        self, number: int, prefixes: Iterable[str], owner_id: str, kind: CredentialKind | None
    ) -> None:
        """See `ClientChannel`."""
        forget = pb.FollowResponse.Forget(number=number, key_prefixes=prefixes, owner_id=owner_id)
        if kind is not None:
            forget.kind = KIND_NUMBERS[kind]
        self._send(pb.FollowResponse(forget=forget))

    def forget_all(self, number: int) -> None:
        """See `ClientChannel`."""
        self._send(pb.FollowResponse(forget=pb.FollowResponse.Forget(number=number, everything=True)))

    def end(self, number: int, reason: str) -> None:
        """See `ClientChannel`."""
        self._send(pb.FollowResponse(end=pb.FollowResponse.End(number=number, reason=reason)))

    def close(self) -> None:
        """See `ClientChannel`."""
        self._closed.set()
        self._queued.set()

    def _send(self, response: pb.FollowResponse) -> None:
        if self._closed.is_set():
            return
        data = response.SerializeToString()
        self._queued_bytes += len(data)
        if self._queued_bytes > _MAX_QUEUED_BYTES:
            self._queue.clear()
            self.close()
            return
        self._queue.append(data)
        self._queued.set()

    async def _write(self) -> None:
        """Send what is queued, until the stream is closed and all of it is sent."""
        while True:
            while self._queue:
                data = self._queue.popleft()
                await self._context.write(data)
                self._queued_bytes -= len(data)
            if self._closed.is_set():
                return
            self._queued.clear()
            await self._queued.wait()
