"""The client of authsvc: one question, one answer, within one deadline."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import grpc

from authsvc.client import told, verdict
from authsvc.client.channels import Channels, Connection, Tls, is_local
from authsvc.client.errors import Unavailable, error_of
from authsvc.client.own_key import Metadata, OwnKey
from authsvc.client.scopes import scopes_of
from authsvc.client.verdict import CredentialType, Verdict, VerdictCode
from authsvc.v1 import key_service_pb2 as key_pb
from authsvc.v1 import session_service_pb2 as session_pb

# Seconds to wait before the second and before any later attempt, at most.
_FIRST_WAIT, _MAX_WAIT = 0.05, 1.0
# Whoever does not answer in so many seconds may be hanging; a caller in a greater hurry proves nothing.
_FAIR = 0.1
# No key string and no session token is that long, by far; what is is not sent.
_MAX_LENGTH = 1024

Answer = TypeVar("Answer")
_Ask = Callable[[Connection, Metadata, float], Awaitable[Answer]]


class AuthClient:
    """Asks authsvc what credentials are worth, while its `async with` block runs.

    One serves a whole process; any number of calls may be in flight.
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
    ) -> None:
        """Take where authsvc is and the key to call it with; that needs `keys:verify`, `sessions:verify`.

        `target` is host:port, or any other name that gRPC resolves. `key` is a key string, a file that holds
        one (read anew when it changes), a function that returns the current one, or None when a client
        certificate says who we are. `tls` None is plain text, which is for this machine: for any other one,
        where something below encrypts, say so by `insecure`. A proxy of the environment (`http_proxy`) is not
        used. `deadline` is the seconds that an answer may take, all `attempts` together.

        Raises ValueError for plain text beyond loopback that was not asked for, and for other bad arguments.
        """
        if deadline <= 0 or attempts < 1 or connections < 1:
            raise ValueError("deadline, attempts and connections have to be positive")
        if tls is None and not (insecure or is_local(target)):
            raise ValueError(
                f"keys would travel to {target} in plain text; leave tls out, or give a Tls(ca=…). Where "
                'something below us encrypts, add insecure="plaintext-beyond-loopback"'
            )
        self._target = target
        self._own_key = OwnKey(key)
        self._tls = tls
        self._deadline = deadline
        self._attempts = attempts
        self._connections = connections
        self._channels: Channels | None = None

    @property
    def deadline(self) -> float:
        """The seconds that an answer may take."""
        return self._deadline

    def __repr__(self) -> str:
        return f"AuthClient({self._target!r})"

    async def __aenter__(self) -> Self:
        if self._channels is not None:
            raise RuntimeError("this client is running already; make another one")
        self._channels = Channels(self._target, self._tls, self._connections)
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
            await channels.close()

    async def verify_key(
        self,
        key_string: str,
        required_scopes: str | Iterable[str] = (),
        client_ip: str = "",
        *,
        deadline: float | None = None,
    ) -> Verdict:
        """Return what a presented key string is worth; a VALID one counts as a use (rule 23).

        Blanks and newlines around it, as files and clipboards leave them, do not count.
        `required_scopes` are what it must be allowed to do, all of them. `client_ip` is who presented it;
        what is no address is left out.
        `deadline` stands for the client's. Raises Unavailable when nobody can know, Refused when authsvc
        does not answer us.
        """
        scopes = scopes_of(required_scopes)
        key_string = key_string.strip()
        if _is_rubbish(key_string):
            return Verdict(VerdictCode.NOT_FOUND, CredentialType.KEY)
        request = key_pb.VerifyKeyRequest(
            key_string=key_string, required_scopes=scopes, client_ip=told.address(client_ip)
        )

        async def ask(on: Connection, metadata: Metadata, timeout: float) -> key_pb.VerifyKeyResponse:
            return await on.verify_key(request, metadata=metadata, timeout=timeout)

        return verdict.of_key(await self._answered(ask, deadline))

    async def verify_session(
        self,
        session_token: str,
        required_scopes: str | Iterable[str] = (),
        client_ip: str = "",
        user_agent: str = "",
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str | bytes]] = (),
        deadline: float | None = None,
    ) -> Verdict:
        """Return what a presented session token is worth; a VALID one counts as activity.

        `client_ip` and `user_agent` become the session's address and device: give the user's, or none.
        `headers` are those of the user's request, from which the client hints (`sec-ch-ua-…`) are taken, and
        nothing else. What is no address, and what cannot be sent of the others, is left out. All else as in
        `verify_key`.
        """
        scopes = scopes_of(required_scopes)
        session_token = session_token.strip()
        if _is_rubbish(session_token):
            return Verdict(VerdictCode.NOT_FOUND, CredentialType.SESSION)
        request = session_pb.VerifySessionRequest(
            session_token=session_token,
            required_scopes=scopes,
            client_ip=told.address(client_ip),
            user_agent=told.user_agent(user_agent),
            client_hints=told.client_hints(headers),
        )

        async def ask(on: Connection, metadata: Metadata, timeout: float) -> session_pb.VerifySessionResponse:
            return await on.verify_session(request, metadata=metadata, timeout=timeout)

        return verdict.of_session(await self._answered(ask, deadline))

    async def _answered(self, ask: _Ask[Answer], deadline: float | None) -> Answer:
        """Ask until there is an answer, the attempts are used up, or the deadline would pass.

        Only UNAVAILABLE is tried again, almost at once, since another worker may well know.
        RESOURCE_EXHAUSTED is not: an overloaded service needs fewer calls.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + (self._deadline if deadline is None else deadline)
        for attempt in range(1, self._attempts + 1):
            if self._channels is None:
                raise RuntimeError(
                    "this client does not run; use it in `async with AuthClient(…) as client:`"
                )
            left = ends - loop.time()
            if left <= 0:
                raise Unavailable("no time is left", code=grpc.StatusCode.DEADLINE_EXCEEDED)
            connection = self._channels.next()
            try:
                # gRPC keeps the deadline, too, unless it hangs.
                async with asyncio.timeout_at(ends):
                    return await ask(connection, self._own_key.metadata(), left)
            except (grpc.aio.AioRpcError, TimeoutError) as failed:
                error = error_of(failed)
                if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and left > _FAIR:
                    connection.rest()
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
        """Say whether a cancellation is meant for us, and does not come of the client's end."""
        task = asyncio.current_task()
        return self._channels is not None or task is None or task.cancelling() > 0


def wait(attempt: int, spread: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after an attempt, of which the first is 1: ever longer, with jitter."""
    return min(_MAX_WAIT, _FIRST_WAIT * 2.0 ** min(attempt - 1, 16)) * (0.5 + 0.5 * spread())


def closed() -> Unavailable:
    """Say that the client was closed while somebody waited for an answer."""
    return Unavailable("the client was closed", code=grpc.StatusCode.CANCELLED, reason="CLIENT_CLOSED")


def _is_rubbish(presented: str) -> bool:
    """Say whether this can be no credential of authsvc, and may not even be sendable."""
    return not presented or len(presented) > _MAX_LENGTH or not presented.isascii()
