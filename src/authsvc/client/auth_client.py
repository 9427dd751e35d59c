"""The asyncio client of authsvc."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import grpc

from authsvc.client import client_info, verdict
from authsvc.client.backoff import wait
from authsvc.client.channels import Channels, Connection, Tls, check_encryption
from authsvc.client.derived import Answer, Ask, DerivedTokens
from authsvc.client.errors import Unavailable, closed, error_of, readable
from authsvc.client.hold_state import HoldState
from authsvc.client.holding import Holding
from authsvc.client.memory import Memory
from authsvc.client.own_key import Metadata, OwnKey
from authsvc.client.questions import about_key, about_session, key_request, not_found, session_request
from authsvc.client.scopes import Scopes
from authsvc.client.trace_context import trace_metadata
from authsvc.client.verdict import Verdict
from authsvc.v1 import key_service_pb2 as key_pb
from authsvc.v1 import session_service_pb2 as session_pb
from authsvc.verify.clock import boottime
from authsvc.verify.question import Question

# A worker that does not answer within this time may be hanging. Missing a shorter deadline proves nothing.
_HANGING_AFTER_SECONDS = 0.1
# Key strings and session tokens are much shorter than this. Longer texts are not sent.
_MAX_CREDENTIAL_LENGTH = 1024
_MAX_HOLD_CAPACITY = 1_000_000


class AuthClient(DerivedTokens):
    """Verifies credentials with authsvc, inside its `async with` block.

    One client is enough for a process; any number of calls can be in flight.
    """

    def __init__(
        self,
        target: str,
        *,
        key: str | Path | Callable[[], str] | None,
        tls: Tls | None = Tls(),  # noqa: B008 - frozen
        insecure: Literal["", "plaintext-beyond-loopback"] = "",
        deadline: float = 1.0,
        attempts: int = 5,
        connections: int = 4,
        hold: bool = False,
        hold_capacity: int = 10_000,
    ) -> None:
        """Take the address of authsvc and the key to call it with, with `keys:verify` and `sessions:verify`.

        `target` is host:port, or any other name that gRPC resolves. `key` is a key string, a file that
        contains one (reloaded when it changes), a function that returns the current one, or None if a client
        certificate authenticates the client. `tls=None` means plain text, which is for this machine only. For
        another machine, if a lower layer encrypts the traffic, set `insecure`. A proxy named in the
        environment (`http_proxy`) is not used. `deadline` is the time for an answer in seconds, including all
        `attempts`. With `hold`, credentials are verified in this process once they are known, up to
        `hold_capacity` of them, and no longer accepted when their revocation was answered. This requires a
        key of the owner `authsvc` with the scope `holders:follow`.

        Raises ValueError for plain text beyond loopback without `insecure`, and for other invalid arguments.
        """
        if deadline <= 0 or attempts < 1 or connections < 1:
            raise ValueError("deadline, attempts and connections must be positive")
        if not 1 <= hold_capacity <= _MAX_HOLD_CAPACITY:
            raise ValueError(f"hold_capacity must be from 1 to {_MAX_HOLD_CAPACITY}")
        check_encryption(target, tls, insecure)
        self._target = target
        self._own_key = OwnKey(key)
        self._tls = tls
        self._deadline = deadline
        self._attempts = attempts
        self._connections = connections
        self._channels: Channels | None = None
        self._hold_capacity = hold_capacity
        self._memory = Memory(hold_capacity, boottime) if hold else None
        self._holding: Holding | None = None
        self._asked = 0

    @property
    def hold_state(self) -> HoldState:
        """What is held, and how verifications were answered, for metrics. It may be read in any thread."""
        memory = self._memory
        if memory is None:
            return HoldState(asked=self._asked)
        return HoldState(memory.answered, memory.admitted, self._asked, len(memory), memory.lease_left)

    @property
    def deadline(self) -> float:
        """The time that an answer may take, in seconds."""
        return self._deadline

    def __repr__(self) -> str:
        return f"AuthClient({self._target!r})"

    async def __aenter__(self) -> Self:
        if self._channels is not None:
            raise RuntimeError("this client is already running; create another one")
        memory = self._memory
        self._channels = Channels(self._target, self._tls, self._connections, follows=memory is not None)
        if memory is not None and (following := self._channels.following) is not None:
            self._holding = Holding(memory, following, self._own_key, self._hold_capacity, boottime)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._channels is not None and self._channels.origin.is_this_process:
            self._channels.origin.check()
            channels, self._channels = self._channels, None
            holding, self._holding = self._holding, None
            try:
                if holding is not None:
                    await holding.close()
            finally:
                await channels.close()

    async def verify_key(
        self,
        key_string: str,
        required_scopes: Scopes = (),
        client_ip: str = "",
        user_agent: str = "",
        *,
        any_of_scopes: Scopes = (),
        cost: int | None = None,
        deadline: float | None = None,
    ) -> Verdict:
        """Return the verdict on a presented key string. A VALID verdict counts as a use (rule 23).

        Whitespace around it is ignored. The key must have all of `required_scopes`, and one of
        `any_of_scopes` unless that is empty. `client_ip` and `user_agent` are those of who presented the key;
        a value that is not an address is ignored. `cost` is taken from its rate limits, 1 if None. `deadline`
        overrides that of the client. Raises Unavailable if the key cannot be verified right now, and Refused
        if authsvc refuses the request.
        """
        ends, key_string = self._ends(deadline), key_string.strip()
        question = about_key(required_scopes, client_ip, any_of_scopes, user_agent)
        if (known := self._recall(question, key_string)) is not None:
            return known
        if (held := await self._look_up(question, key_string, ends)) is not None:
            return held
        request = key_request(question, key_string, cost)

        async def ask(on: Connection, metadata: Metadata, timeout: float) -> key_pb.VerifyKeyResponse:
            return await on.verify_key(request, metadata=metadata, timeout=timeout)

        return verdict.of_key(await self._answered(ask, ends), tuple(question.any_of_scopes))

    def verify_key_now(
        self,
        key_string: str,
        required_scopes: Scopes = (),
        client_ip: str = "",
        any_of_scopes: Scopes = (),
        user_agent: str = "",
    ) -> Verdict | None:
        """Return the verdict of `verify_key` from memory; None if that has to ask authsvc.

        For code without an event loop, in any thread. Without `hold`, it knows only what cannot be a key.
        """
        question = about_key(required_scopes, client_ip, any_of_scopes, user_agent)
        return self._recall(question, key_string.strip())

    async def verify_session(
        self,
        session_token: str,
        required_scopes: Scopes = (),
        client_ip: str = "",
        user_agent: str = "",
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str | bytes]] = (),
        any_of_scopes: Scopes = (),
        deadline: float | None = None,
    ) -> Verdict:
        """Return the verdict on a presented session token. A VALID verdict counts as activity.

        `client_ip` and `user_agent` become the address and the device of the session: pass the user's, or
        none. `headers` are the headers of the user's request; only the client hints (`sec-ch-ua-…`) are used.
        A value that is not an address, and texts that cannot be sent, are ignored. Everything else is as in
        `verify_key`.
        """
        ends, session_token = self._ends(deadline), session_token.strip()
        hints = client_info.client_hints(headers)
        question = about_session(required_scopes, client_ip, user_agent, hints, any_of_scopes)
        if (known := self._recall(question, session_token)) is not None:
            return known
        if (held := await self._look_up(question, session_token, ends)) is not None:
            return held
        request = session_request(question, session_token, hints)

        async def ask(on: Connection, metadata: Metadata, timeout: float) -> session_pb.VerifySessionResponse:
            return await on.verify_session(request, metadata=metadata, timeout=timeout)

        # If its activity is in doubt, the worker that is followed should be the one that asks the database.
        is_known = self._memory is not None and self._memory.knows(session_token)
        answer = await self._answered(ask, ends, by_followed=is_known)
        if is_known and self._holding is not None:
            self._holding.look_again(session_token)
        return verdict.of_session(answer, tuple(question.any_of_scopes))

    def verify_session_now(
        self,
        session_token: str,
        required_scopes: Scopes = (),
        client_ip: str = "",
        user_agent: str = "",
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str | bytes]] = (),
        any_of_scopes: Scopes = (),
    ) -> Verdict | None:
        """Return the verdict of `verify_session` from memory, as `verify_key_now` does."""
        hints = client_info.client_hints(headers)
        question = about_session(required_scopes, client_ip, user_agent, hints, any_of_scopes)
        return self._recall(question, session_token.strip())

    def _recall(self, question: Question, presented: str) -> Verdict | None:
        """Return the verdict from memory; None if authsvc has to be asked."""
        if _is_malformed(presented):
            return not_found(question)
        return None if self._memory is None else self._memory.recall(question, presented)

    async def _look_up(self, question: Question, presented: str, ends: float) -> Verdict | None:
        """Return the verdict after the credential was asked for on the stream; None if an RPC has to ask."""
        if self._holding is None or self._channels is None:
            return None
        self._channels.origin.check()
        left = ends - asyncio.get_running_loop().time()
        verdict = await self._holding.answer(question, presented, left)
        if verdict is None and self._channels is None:
            raise closed()
        return verdict

    def _ends(self, deadline: float | None) -> float:
        return asyncio.get_running_loop().time() + (self._deadline if deadline is None else deadline)

    async def _answered(self, ask: Ask[Answer], ends: float, *, by_followed: bool = False) -> Answer:
        """Call until there is an answer, no attempts are left, or the deadline would pass.

        Only UNAVAILABLE is retried, almost at once, since another worker may be able to answer.
        RESOURCE_EXHAUSTED is not retried: an overloaded service needs fewer calls. With `by_followed`, the
        worker that is followed is called first.
        """
        loop = asyncio.get_running_loop()
        self._asked += 1
        for attempt in range(1, self._attempts + 1):
            if self._channels is None:
                raise RuntimeError(
                    "this client is not running; use it in `async with AuthClient(…) as client:`"
                )
            left = ends - loop.time()
            if left <= 0:
                raise Unavailable("no time is left", code=grpc.StatusCode.DEADLINE_EXCEEDED)
            connection = self._channels.next(prefer_followed=by_followed and attempt == 1)
            try:
                # gRPC also enforces the deadline, unless it hangs.
                async with asyncio.timeout_at(ends):
                    metadata = self._own_key.metadata() + trace_metadata()
                    return readable(await ask(connection, metadata, left))
            except (grpc.aio.AioRpcError, TimeoutError) as failed:
                error = error_of(failed)
                if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and left > _HANGING_AFTER_SECONDS:
                    connection.pause()
            except asyncio.CancelledError:
                if self._is_wanted():
                    raise
                error = closed()
            pause = wait(attempt)
            if (
                error.code is not grpc.StatusCode.UNAVAILABLE
                or attempt == self._attempts
                or loop.time() + pause >= ends
            ):
                raise error from None
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt answers or raises")

    def _is_wanted(self) -> bool:
        """Return whether a cancellation is meant for the caller, and is not caused by closing the client."""
        task = asyncio.current_task()
        return self._channels is not None or task is None or task.cancelling() > 0


def _is_malformed(presented: str) -> bool:
    """Return whether a text cannot be a credential of authsvc, and perhaps cannot even be sent."""
    return not presented or len(presented) > _MAX_CREDENTIAL_LENGTH or not presented.isascii()
