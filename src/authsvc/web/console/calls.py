"""Calls of RPCs by pages, with the credential of whoever asks."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authsvc.entrance.incoming_call import IncomingCall
from authsvc.rpc.peer import address_of as host_of
from authsvc.web.connect import peer
from authsvc.web.console.problem import Problem, problem_of
from authsvc.web.local_call import Kept, RefusedError, ask, method_of
from authsvc.web.rpcs import Client, Method, Rpcs, Trailers

_PASSED_ON = ("x-forwarded-for", "x-request-id")

Answer = TypeVar("Answer", bound=Message)


def client_of(request: Request, credential: str) -> Client:
    """Return who asks, with a credential."""
    headers = [(name, value) for name, value in request.headers.items() if name in _PASSED_ON]
    return Client(peer(request.scope), [("authorization", f"Bearer {credential}"), *headers])


def incoming_call(request: Request, credential: str) -> IncomingCall:
    """Return a request as a call that is not authenticated yet."""
    return IncomingCall(
        host_of(peer(request.scope)),
        (credential,),
        request.headers.getlist("x-forwarded-for"),
        request_id=request.headers.get("x-request-id", ""),
    )


def address_of(rpcs: Rpcs, request: Request) -> str:
    """Return the address of the browser, also behind a trusted proxy."""
    return rpcs.entrance.authentication.address(incoming_call(request, ""))


async def delayed(rpcs: Rpcs, request: Request) -> None:
    """Delay a request of somebody who is not known, like a call over gRPC, beyond a rate for each address."""
    await rpcs.entrance.strangers.wait(address_of(rpcs, request))


class Calls(NamedTuple):
    """Calls RPCs for one client, each for so many seconds at most."""

    rpcs: Rpcs
    client: Client
    max_seconds: float

    async def __call__(self, name: str, request: Message, answer_type: type[Answer]) -> Answer:
        """Return the answer to `KeyService/GetKey`. Raises Problem."""
        try:
            answer = await ask(self.rpcs, name, self.client, request, self.max_seconds)
        except RefusedError as error:
            raise problem_of(error.refusal) from None
        assert isinstance(answer, answer_type)  # noqa: S101 - the caller names the type of the RPC
        return answer

    def delivered(
        self,
        name: str,
        request: Message,
        show: Callable[[Any], Response],
        refuse: Callable[[Problem], Awaitable[Response]],
    ) -> Response:
        """Return a response that calls an RPC, and sends the page of its answer.

        The page is sent as the answer of the RPC, so that it is known whether a new secret was delivered.
        """
        return _Delivered(self, method_of(self.rpcs, name), request, show, refuse)


class _Sent(Kept):
    """An exchange whose answer is sent to the browser, as a page."""

    def __init__(self, request: Message, send: Callable[[bytes], Awaitable[None]]) -> None:
        super().__init__(request)
        self._send = send

    async def answer(self, message: bytes, trailers: Trailers) -> None:
        await self._send(message)


class _Delivered(Response):
    def __init__(
        self,
        calls: Calls,
        method: Method,
        request: Message,
        show: Callable[[Any], Response],
        refuse: Callable[[Problem], Awaitable[Response]],
    ) -> None:
        super().__init__()
        self._calls, self._method, self._request = calls, method, request
        self._show, self._refuse = show, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def show(message: bytes) -> None:
            page = self._show(self._method.answer_type.FromString(message))
            await page(scope, receive, send)

        exchange = _Sent(self._request, show)
        await self._calls.rpcs.call(self._method, self._calls.client, exchange, self._calls.max_seconds)
        if exchange.refusal is not None:
            page = await self._refuse(problem_of(exchange.refusal))
            await page(scope, receive, send)
