"""The call that is being answered, as every log line and outgoing request in it names it.

Mechanism: a context variable. A call sets it in its own task, and what it awaits and begins sees it. What
begins in a call and outlives it, or works for others as well, begins `apart`.
"""

import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextvars import Context, ContextVar, Token, copy_context
from typing import Protocol

import structlog

#: The request id that a caller may send, and that the answer has.
REQUEST_ID = "x-request-id"


class CurrentSpan(Protocol):
    """The span that is under way, as far as others need it."""

    @property
    def trace_id(self) -> str:
        """The id of the trace, 32 hexadecimal digits."""

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """The headers `traceparent` and, if there is one, `tracestate` of what is called."""


class CurrentCall:
    """The ids of a call."""

    __slots__ = ("_request_id", "span")

    def __init__(self, request_id: str = "", span: CurrentSpan | None = None) -> None:
        """Take what the caller names the call, "" to make an id, and the span, if the call is traced."""
        self._request_id = request_id
        self.span = span

    @property
    def request_id(self) -> str:
        """The id. It is made when it is first read, since the system's random source costs a microsecond."""
        if not self._request_id:
            self._request_id = secrets.token_hex(8)
        return self._request_id


_CURRENT: ContextVar[CurrentCall | None] = ContextVar("authsvc_current_call", default=None)


def current_call() -> CurrentCall | None:
    """Return the call that is being answered here, if there is one."""
    return _CURRENT.get()


class _Answering:
    """A block. As a generator it would cost every call that waits a microsecond more."""

    __slots__ = ("_call", "_token")

    _token: Token[CurrentCall | None]

    def __init__(self, call: CurrentCall | None) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = _CURRENT.set(self._call)

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._token)


def answering(call: CurrentCall | None) -> AbstractContextManager[None]:
    """Have log lines and outgoing requests name a call, or none, while the block runs."""
    return _Answering(call)


def named(request_id: str) -> CurrentCall:
    """Return a call that begins here; without an id of its own, it is named like the one that makes it."""
    outer = _CURRENT.get()
    return CurrentCall(request_id or ("" if outer is None else outer.request_id))


def outgoing_headers() -> Sequence[tuple[str, str]]:
    """Return the headers that let what is called now continue the trace; none without a trace."""
    call = _CURRENT.get()
    return () if call is None or call.span is None else call.span.headers


def apart() -> Context:
    """Return a copy of the current context that belongs to no call."""
    context = copy_context()
    context.run(_CURRENT.set, None)
    return context


def add_ids(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Add the ids of the current call to a log line; a processor of structlog."""
    call = _CURRENT.get()
    if call is not None:
        event.setdefault("request_id", call.request_id)
        if call.span is not None:
            event.setdefault("trace_id", call.span.trace_id)
    return event
