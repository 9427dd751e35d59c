"""The middleware that authenticates every request of an ASGI application: Starlette, FastAPI, Django."""

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any

from authsvc.client.auth_client import AuthClient
from authsvc.client.http_middleware import IDENTITY, Admitted, HttpMiddleware, HttpRequest, address_of
from authsvc.client.identity import set_current
from authsvc.client.lifespan import Lifespan
from authsvc.client.problem import problem_of
from authsvc.client.refusal import Refusal

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# Codes of a WebSocket that is closed: policy violation; try again later. Servers answer 403 to both if the
# connection is not accepted yet.
_POLICY, _LATER = 1008, 1013
_DENIAL = "websocket.http.response"


class AuthenticatedAsgi(HttpMiddleware[AsgiApp, AuthClient]):
    """Verifies the credential of each request and WebSocket before the application is called.

        app = AuthenticatedAsgi(app, client, scopes={"GET /orders": "orders:read"})
        app.add_middleware(AuthenticatedAsgi, client=client, scopes=...)  # Starlette, FastAPI

    - 401: there is no credential, more than one, or one that is not valid.
    - 403: a scope is missing, or the method and path are not listed.
    - 503, with Retry-After: the credential cannot be verified right now. The cause is in our log.

    A WebSocket is a GET. It is refused before it is accepted, with the same answers if the server can send
    them (`websocket.http.response`), and otherwise with 403. It is verified when it begins; it continues if
    the credential is revoked later.

    The application gets the caller from `current()`, also in tasks and threads that it starts, or from
    `scope["authsvc.identity"]`.

    A client that is not running is started and closed with the application (lifespan). If the server tells
    nothing of that, the client starts with the first request, and ends with the process.
    """

    _kind_of_client = AuthClient

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._lifespan.serve(self._app, scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise ValueError(f"requests of the type {scope['type']!r} cannot be authenticated")
        try:
            shown = await self._identified(scope)
        except Exception as error:  # noqa: BLE001 - no failure lets a request through
            refusal = self._faults.refusal("a request", error)
            await _refuse(refusal, scope, receive, send)
            return
        set_current(shown[IDENTITY])
        try:
            await self._app(shown, receive, send)
        finally:
            set_current(None)

    @cached_property
    def _lifespan(self) -> Lifespan:
        return Lifespan(self._client)

    async def _identified(self, scope: Scope) -> Scope:
        """Return the scope as the application sees it, with the caller. Raise Refusal."""
        headers = [(_text(name).lower(), _text(value)) for name, value in scope["headers"]]
        asked = self._examined(
            HttpRequest(
                scope.get("method", "GET"),
                _path(scope),
                _text(scope.get("raw_path") or b""),
                headers,
                lambda: self._address(scope),
            )
        )
        if asked.questions:
            await self._lifespan.start()
        deadline = self._deadline(asked)
        verdicts = [await question.ask(self._client, deadline) for question in asked.questions]
        admitted = self._admitted(asked, verdicts)
        return {
            **scope,
            "headers": self._shown_headers(headers, admitted),
            IDENTITY: admitted.identity,
        }

    def _shown_headers(self, headers: list[tuple[str, str]], admitted: Admitted) -> list[tuple[bytes, bytes]]:
        return [
            (name.encode("latin-1"), shown.encode("latin-1"))
            for name, value in headers
            if (shown := self._shown(name, value, admitted)) is not None
        ]

    def _address(self, scope: Scope) -> str:
        if self._client_address is not None:
            return self._client_address(scope)
        return address_of((scope.get("client") or ("",))[0])


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _path(scope: Scope) -> str:
    """Return the path below `root_path`. Some servers give only that one.

    If it does not begin with a slash then, frameworks differ: Django reads it so, and Starlette as a whole.
    """
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path") or "") or "/"


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    problem = problem_of(refusal, scope.get("method", "GET"))
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if _DENIAL not in (scope.get("extensions") or {}):
            code = _LATER if problem.status.value == 503 else _POLICY
            await send({"type": "websocket.close", "code": code, "reason": refusal.reason})
            return
        kind = _DENIAL
    headers = [(name.encode(), value.encode()) for name, value in problem.headers]
    await send({"type": f"{kind}.start", "status": problem.status.value, "headers": headers})
    await send({"type": f"{kind}.body", "body": problem.body})
