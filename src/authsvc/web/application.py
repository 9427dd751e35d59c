"""What is served at AUTHSVC_WEB_LISTEN, by path: RPCs, OAuth, scanners, documents, probes, the console.

Mechanism: calls of RPCs go straight to `Connect`; what has a path of its own goes through the routes of
Starlette, and everything else to the console. Without it, and below `/authsvc.`, a path that nothing is
served at is answered like an unknown RPC, and delayed beyond a rate.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.entrance.entrance import Entrance
from authsvc.entrance.readiness import Readiness
from authsvc.rpc.peer import address_of
from authsvc.web import openapi
from authsvc.web.connect import Connect, client_of, peer
from authsvc.web.introspection import Introspection
from authsvc.web.named_calls import NamedCalls
from authsvc.web.published import Published
from authsvc.web.rpcs import Rpcs
from authsvc.web.token_revocation import TokenRevocation

_JSON = "application/json"
# Also of RPCs that there are not.
_RPC_PATHS = "/authsvc."


class WebApplication:
    """The one ASGI application of the port."""

    def __init__(
        self,
        rpcs: Rpcs,
        readiness: Readiness,
        entrance: Entrance,
        console: ASGIApp | None = None,
        secret_scanning: ASGIApp | None = None,
        published: Published | None = None,
    ) -> None:
        self._readiness, self._entrance, self._console = readiness, entrance, console
        self._connect = Connect(rpcs)
        routes = [
            Route("/healthz", self._alive, methods=["GET"]),
            Route("/readyz", self._ready, methods=["GET"]),
            Route("/introspect", Introspection(rpcs, client_of)),
            Route("/revoke", TokenRevocation(rpcs, client_of)),
            *([Route("/secret-scanning", secret_scanning)] if secret_scanning else ()),
            Route("/openapi.json", self._openapi, methods=["GET"]),
            *(() if published is None else published.routes(entrance.probes)),
        ]
        router = Router(routes, redirect_slashes=False, default=self._others)
        places = {route.path.split("/")[1] for route in routes}
        self._named = NamedCalls(router, places | {"console"}, entrance.observer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self._connect.serves(scope["path"]):
            await self._connect(scope, receive, send)
        else:
            await self._named(scope, receive, send)

    async def _others(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._console is None or scope["path"].startswith(_RPC_PATHS):
            await self._connect(scope, receive, send)
        else:
            await self._console(scope, receive, send)

    async def _alive(self, request: Request) -> Response:
        await self._probed(request)
        return Response()

    async def _ready(self, request: Request) -> Response:
        await self._probed(request)
        if reason := self._readiness.reason:
            return Response(reason, 503, {"retry-after": "1"}, "text/plain")
        return Response()

    async def _openapi(self, request: Request) -> Response:
        await self._probed(request)
        # The first time, it takes some tenths of a second.
        document = await asyncio.to_thread(openapi.served)
        return Response(document, headers={"x-content-type-options": "nosniff"}, media_type=_JSON)

    async def _probed(self, request: Request) -> None:
        await self._entrance.probes.wait(address_of(peer(request.scope)))
