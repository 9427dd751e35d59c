"""Keeps what this process holds up to date: follows a worker, and another one when a stream ends.

Mechanism: see `follow_stream`. Between two streams, credentials are still answered from memory until the
sub-lease is over, or until the next stream begins, which is with an empty memory.

Bound: one stream at a time. After a failure it waits up to a second, after a refusal `_REFUSED_SECONDS`, or
as long as authsvc says in RetryInfo.

Failure: without a stream, every verification is asked by its RPC. The log says so once, and why.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable

import grpc

from authsvc.client.backoff import wait
from authsvc.client.channels import Connection
from authsvc.client.errors import Refused, Unavailable, error_of
from authsvc.client.follow_stream import FollowStream, StreamFault
from authsvc.client.look_ups import Found
from authsvc.client.memory import Memory
from authsvc.client.own_key import OwnKey
from authsvc.client.questions import not_found
from authsvc.client.verdict import Verdict
from authsvc.model.credential import CredentialKind
from authsvc.verify.clock import Stopwatch
from authsvc.verify.question import Question

_log = logging.getLogger(__name__)
_CLOSE_SECONDS = 1.0
_pause: Callable[[float], Awaitable[object]] = asyncio.sleep
_REFUSED_SECONDS, _LONGEST_REFUSAL_SECONDS = 30.0, 600.0
# What gRPC's client says instead of a refusal that arrives while it still sends. The next attempt tells more.
_GRPC_BUG, _TOLD_UNCLEAR = "Internal error from Core", 3
_REMEDIES = {
    grpc.StatusCode.PERMISSION_DENIED: "give its key the scope holders:follow, and the owner authsvc",
    grpc.StatusCode.UNAUTHENTICATED: "check the client's own key",
    grpc.StatusCode.UNIMPLEMENTED: "this authsvc is older than hold=True, or a proxy does not pass streams; "
    "update it, or omit hold=True",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "fewer clients may hold credentials than try to; see AUTHSVC_HOLDERS",
}


class Holding:
    """Follows a worker until it is closed."""

    def __init__(
        self,
        memory: Memory,
        connection: Connection,
        own_key: OwnKey,
        capacity: int,
        stopwatch: Stopwatch,
    ) -> None:
        """Begin. Requires a running event loop."""
        self._memory = memory
        self._connection = connection
        self._own_key = own_key
        self._capacity = capacity
        self._stopwatch = stopwatch
        self._stream: FollowStream | None = None
        # The problem that was logged last; None while a worker is followed.
        self._told: str | None = None
        self._is_closing = False
        self._unclear = 0
        self._task = asyncio.create_task(self._follow())

    async def answer(self, question: Question, presented: str, timeout: float) -> Verdict | None:
        """Return the verdict on a credential that memory did not answer, after a look-up on the stream.

        None if the RPC has to be asked: the look-up was not answered within half of `timeout`, or the
        activity of a session is in doubt.
        """
        stream, kind = self._stream, question.kind
        if stream is None or kind is None or timeout <= 0 or self._memory.knows(presented):
            return None
        if await stream.look_ups.find(presented, kind, timeout / 2) is Found.NOTHING:
            return not_found(question)
        # It may be forgotten again by now. Nothing is awaited between this look and the answer (R16).
        return self._memory.recall(question, presented)

    def look_again(self, presented: str) -> None:
        """Ask for a session once more whose activity was in doubt, since authsvc has recorded it now."""
        if self._stream is not None and self._memory.lease_left and self._memory.knows(presented):
            self._stream.look_ups.ask(presented, CredentialKind.SESSION)

    async def close(self) -> None:
        """Say goodbye to the worker, so that no change waits for this client."""
        self._is_closing = True
        self._memory.end("the client was closed")
        if self._stream is not None and self._stream.was_granted:
            self._stream.leave()
            await asyncio.wait([self._task], timeout=_CLOSE_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        try:
            await self._follow_one_after_another()
        finally:
            self._memory.end("the client was closed")

    async def _follow_one_after_another(self) -> None:
        failures = 0
        while True:
            stream = FollowStream(self._memory, stopwatch=self._stopwatch, pause=_pause)
            pause = 0.0
            try:
                # Until then, the memory is kept.
                await self._connected()
                self._stream = stream
                reason = await stream.run(
                    self._connection.follow, self._own_key.metadata(), _instance(), self._capacity
                )
                if not reason:
                    return
                _log.info("authsvc has ended what this client holds, and it joins again: %s", reason)
            except StreamFault as fault:
                if fault.is_broken:
                    self._memory.end(str(fault))
                self._tell(str(fault))
            except grpc.aio.AioRpcError as failed:
                pause = self._failed(error_of(failed))
            except (Refused, Unavailable) as error:  # there is no own key
                pause = self._failed(error)
            except Exception as error:  # noqa: BLE001 - verifications go on without it
                self._memory.end("following failed")
                self._tell(f"unexpected {type(error).__name__}")
            finally:
                self._stream = None
            if self._is_closing:
                return
            if stream.was_granted:
                failures = 0
            failures += 1
            await _pause(max(pause, wait(failures)))

    async def _connected(self) -> None:
        channel = self._connection.channel
        while not self._connection.is_ready:
            await channel.wait_for_state_change(channel.get_state())

    def _failed(self, error: Unavailable | Refused) -> float:
        """Log a failure; return the least number of seconds until the next attempt."""
        remedy = _REMEDIES.get(error.code)
        if error.code is not grpc.StatusCode.UNAVAILABLE:
            # This worker will not serve this client any more; so nothing is to be kept.
            self._memory.end("authsvc has refused the stream")
        self._unclear = self._unclear + 1 if _GRPC_BUG in str(error) else 0
        if self._unclear not in range(1, _TOLD_UNCLEAR):
            self._tell(f"{error}; {remedy}" if remedy else str(error))
        if remedy is None:
            return 0.0
        after = error.retry_after if isinstance(error, Unavailable) else None
        return _REFUSED_SECONDS if after is None else min(after, _LONGEST_REFUSAL_SECONDS)

    def _tell(self, problem: str) -> None:
        """Log why nothing is held, once for as long as it is the same."""
        if self._stream is not None and self._stream.was_granted:
            self._told = None
        if problem != self._told and not self._is_closing:
            self._told = problem
            _log.warning("this client holds no credentials and asks for each verification: %s", problem)


def _instance() -> str:
    return f"{socket.gethostname()} {os.getpid()}"[-100:]
