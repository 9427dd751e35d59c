"""The asyncio client of authsvc."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import grpc

from authsvc.client import client_info, verdict
from authsvc.client.channels import Channels, Connection, Tls, is_local
from authsvc.client.errors import Unavailable, error_of
from authsvc.client.own_key import Metadata, OwnKey
from authsvc.client.scopes import scopes_of
from authsvc.client.verdict import CredentialType, Verdict, VerdictCode
from authsvc.v1 import key_service_pb2 as key_pb
from authsvc.v1 import session_service_pb2 as session_pb

# The longest wait before the second attempt, and before any later one.
_FIRST_WAIT_SECONDS, _MAX_WAIT_SECONDS = 0.05, 1.0
# A worker that does not answer within this time may be hanging. Missing a shorter deadline proves nothing.
_HANGING_AFTER_SECONDS = 0.1
# Key strings and session tokens are much shorter than this. Longer texts are not sent.
_MAX_CREDENTIAL_LENGTH = 1024

Answer = TypeVar("Answer")
_Ask = Callable[[Connection, Metadata, float], Awaitable[Answer]]


class AuthClient:
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
    ) -> None:
        """Take the address of authsvc and the key to call it with, with `keys:verify` and `sessions:verify`.

        `target` is host:port, or any other name that gRPC resolves. `key` is a key string, a file that
        contains one (reloaded when it changes), a function that returns the current one, or None if a client
        certificate authenticates the client. `tls=None` means plain text, which is for this machine only. For
        another machine, if a lower layer encrypts the traffic, set `insecure`. A proxy named in the
        environment (`http_proxy`) is not used. `deadline` is the time for an answer in seconds, including all
        `attempts`.

        Raises ValueError for plain text beyond loopback without `insecure`, and for other invalid arguments.
        """
        if deadline <= 0 or attempts < 1 or connections < 1:
            raise ValueError("deadline, attempts and connections must be positive")
        if tls is None and not (insecure or is_local(target)):
            raise ValueError(
                f"keys would be sent to {target} in plain text; omit tls, or pass Tls(ca=…). If a lower "
                'layer encrypts the traffic, pass insecure="plaintext-beyond-loopback"'
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
        """The time that an answer may take, in seconds."""
        return self._deadline

    def __repr__(self) -> str:
        return f"AuthClient({self._target!r})"

    async def __aenter__(self) -> Self:
        if self._channels is not None:
            raise RuntimeError("this client is already running; create another one")
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
        """Return the verdict on a presented key string. A VALID verdict counts as a use (rule 23).

        Leading and trailing whitespace, as files and clipboards leave it, is ignored. The key must have all
        of `required_scopes`. `client_ip` is the address that presented the key; a value that is not an
        address is ignored. `deadline` overrides that of the client. Raises Unavailable if the key cannot be
        verified right now, and Refused if authsvc refuses the request.
        """
        scopes = scopes_of(required_scopes)
        key_string = key_string.strip()
        if _is_malformed(key_string):
            return Verdict(VerdictCode.NOT_FOUND, CredentialType.KEY)
        request = key_pb.VerifyKeyRequest(
            key_string=key_string, required_scopes=scopes, client_ip=client_info.address(client_ip)
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
        """Return the verdict on a presented session token. A VALID verdict counts as activity.

        `client_ip` and `user_agent` become the address and the device of the session: pass the user's, or
        none. `headers` are the headers of the user's request; only the client hints (`sec-ch-ua-…`) are used.
        A value that is not an address, and texts that cannot be sent, are ignored. Everything else is as in
        `verify_key`.
        """
        scopes = scopes_of(required_scopes)
        session_token = session_token.strip()
        if _is_malformed(session_token):
            return Verdict(VerdictCode.NOT_FOUND, CredentialType.SESSION)
        request = session_pb.VerifySessionRequest(
            session_token=session_token,
            required_scopes=scopes,
            client_ip=client_info.address(client_ip),
            user_agent=client_info.user_agent(user_agent),
            client_hints=client_info.client_hints(headers),
        )

        async def ask(on: Connection, metadata: Metadata, timeout: float) -> session_pb.VerifySessionResponse:
            return await on.verify_session(request, metadata=metadata, timeout=timeout)

        return verdict.of_session(await self._answered(ask, deadline))

    async def _answered(self, ask: _Ask[Answer], deadline: float | None) -> Answer:
        """Call until there is an answer, no attempts are left, or the deadline would pass.

        Only UNAVAILABLE is retried, almost at once, since another worker may be able to answer.
        RESOURCE_EXHAUSTED is not retried: an overloaded service needs fewer calls.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + (self._deadline if deadline is None else deadline)
        for attempt in range(1, self._attempts + 1):
            if self._channels is None:
                raise RuntimeError(
                    "this client is not running; use it in `async with AuthClient(…) as client:`"
                )
            left = ends - loop.time()
            if left <= 0:
                raise Unavailable("no time is left", code=grpc.StatusCode.DEADLINE_EXCEEDED)
            connection = self._channels.next()
            try:
                # gRPC also enforces the deadline, unless it hangs.
                async with asyncio.timeout_at(ends):
                    return await ask(connection, self._own_key.metadata(), left)
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


def wait(attempt: int, spread: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after attempt 1, 2, …: exponential backoff with jitter."""
    return min(_MAX_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(attempt - 1, 16)) * (0.5 + 0.5 * spread())


def closed() -> Unavailable:
    """Return the error for a call that was waiting when the client was closed."""
    return Unavailable("the client was closed", code=grpc.StatusCode.CANCELLED, reason="CLIENT_CLOSED")


def _is_malformed(presented: str) -> bool:
    """Return whether a text cannot be a credential of authsvc, and perhaps cannot even be sent."""
    return not presented or len(presented) > _MAX_CREDENTIAL_LENGTH or not presented.isascii()
