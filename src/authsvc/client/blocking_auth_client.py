"""The client for code without an event loop: WSGI applications, Celery tasks, scripts."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from authsvc.client.auth_client import AuthClient
from authsvc.client.channels import Tls
from authsvc.client.errors import closed, error_of
from authsvc.client.hold_state import HoldState
from authsvc.client.loop_thread import LoopThread, left
from authsvc.client.origin import forked
from authsvc.client.scopes import Scopes
from authsvc.client.verdict import Verdict

# The maximum delay of an event loop that is running properly.
_LOOP_DELAY_SECONDS = 0.1

Answer = TypeVar("Answer")


class BlockingAuthClient:
    """An `AuthClient` in a thread of its own, with blocking methods.

    It connects on the first call. A client that a module creates therefore works in each process that is
    forked after the module was imported. Any number of threads can use it. Without `close` or a `with` block,
    it ends with its process.
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
        """Take the arguments of `AuthClient`, and raise the same errors."""
        self._client = AuthClient(
            target,
            key=key,
            tls=tls,
            insecure=insecure,
            deadline=deadline,
            attempts=attempts,
            connections=connections,
            hold=hold,
            hold_capacity=hold_capacity,
        )
        self._thread: LoopThread | None = None
        self._starting = threading.Lock()

    @property
    def hold_state(self) -> HoldState:
        """What is held, and how verifications were answered, for metrics."""
        return self._client.hold_state

    @property
    def deadline(self) -> float:
        """The time that an answer may take, in seconds."""
        return self._client.deadline

    def __repr__(self) -> str:
        return f"Blocking{self._client!r}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def verify_key(
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
        """Return the verdict on a presented key string, as `AuthClient.verify_key` does.

        With `hold`, a key that is known is answered in the calling thread.
        """
        known = self._client.verify_key_now(key_string, required_scopes, client_ip, any_of_scopes, user_agent)
        if known is not None:
            return known
        question = self._client.verify_key(
            key_string,
            required_scopes,
            client_ip,
            user_agent,
            any_of_scopes=any_of_scopes,
            cost=cost,
            deadline=deadline,
        )
        return self._answer(question, deadline)

    def verify_session(
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
        """Return the verdict on a presented session token, as `AuthClient.verify_session` does."""
        known = self.verify_session_now(
            session_token,
            required_scopes,
            client_ip,
            user_agent,
            headers=headers,
            any_of_scopes=any_of_scopes,
        )
        if known is not None:
            return known
        question = self._client.verify_session(
            session_token,
            required_scopes,
            client_ip,
            user_agent,
            headers=headers,
            any_of_scopes=any_of_scopes,
            deadline=deadline,
        )
        return self._answer(question, deadline)

    def verify_token(
        self,
        token: str,
        audience: str,
        required_scopes: Scopes = (),
        client_ip: str = "",
        *,
        any_of_scopes: Scopes = (),
        cost: int | None = None,
        deadline: float | None = None,
    ) -> Verdict:
        """Return the verdict on a presented token, as `AuthClient.verify_token` does."""
        question = self._client.verify_token(
            token,
            audience,
            required_scopes,
            client_ip,
            any_of_scopes=any_of_scopes,
            cost=cost,
            deadline=deadline,
        )
        return self._answer(question, deadline)

    def verify_key_now(
        self,
        key_string: str,
        required_scopes: Scopes = (),
        client_ip: str = "",
        any_of_scopes: Scopes = (),
        user_agent: str = "",
    ) -> Verdict | None:
        """Return the verdict from memory; None if `verify_key` has to ask authsvc. Never blocks."""
        return self._client.verify_key_now(key_string, required_scopes, client_ip, any_of_scopes, user_agent)

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
        """Return the verdict from memory; None if `verify_session` has to ask authsvc. Never blocks."""
        return self._client.verify_session_now(
            session_token,
            required_scopes,
            client_ip,
            user_agent,
            headers=headers,
            any_of_scopes=any_of_scopes,
        )

    def close(self) -> None:
        """Close the connections. Calls in flight end with Unavailable. The next call connects again.

        Also ends a start. Waits for up to `deadline`; what is not closed then closes by itself, and the next
        call waits for that first. Does nothing in a process that was forked from the one where the client
        runs.
        """
        thread = self._thread
        if thread is not None and not thread.is_elsewhere:
            thread.end(self.deadline + _LOOP_DELAY_SECONDS)

    def _answer(self, question: Coroutine[Any, Any, Verdict], deadline: float | None) -> Verdict:
        """Return the answer, or raise in time even if the event loop itself is stuck."""
        ends = time.monotonic() + (self.deadline if deadline is None else deadline) + _LOOP_DELAY_SECONDS
        try:
            loop = self._running_loop(ends)
            try:
                asked = asyncio.run_coroutine_threadsafe(question, loop)
            except RuntimeError:  # the loop was closed meanwhile
                raise closed() from None
        except BaseException:
            question.close()
            raise
        return _result(asked, ends)

    def _running_loop(self, ends: float) -> asyncio.AbstractEventLoop:
        """Return the event loop of this process, started if necessary. Raise Refused if none can run."""
        thread = self._thread
        if thread is not None and thread.is_elsewhere:
            raise forked()
        if thread is None or thread.is_ending:
            thread = self._begun(ends)
        thread.wait_for_start(ends)
        return thread.loop

    def _begun(self, ends: float) -> LoopThread:
        """Return the thread that is starting the client, begun by this call or by another one."""
        # After a fork, a thread that does not exist in this process may hold the lock forever.
        if not self._starting.acquire(timeout=left(ends)):
            raise error_of(TimeoutError())
        try:
            if self._thread is not None and self._thread.is_ending:
                self._thread.wait_for_end(ends)
                self._thread = None
            if self._thread is None:
                self._thread = LoopThread(self._client)
            return self._thread
        finally:
            self._starting.release()


def _result(future: "Future[Answer]", ends: float) -> Answer:
    try:
        return future.result(left(ends))
    except TimeoutError:
        future.cancel()
        raise error_of(TimeoutError()) from None
    except CancelledError:
        raise closed() from None
