"""A web application behind a middleware, in this process, that tells what it sees of each request."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.validate import validator

import uvicorn

from authsvc.client import AuthClient, AuthenticatedAsgi, AuthenticatedWsgi, BlockingAuthClient, current
from authsvc.client.asgi import AsgiApp, Receive, Scope, Send
from tests.client.web import Answer, Web
from tests.conftest import Service
from tests.e2e.process import eventually

KINDS = ("wsgi", "asgi")
PARTS = 3
# Threads of our own: the application needs those of the event loop.
_SENDERS = ThreadPoolExecutor(16)


def caller() -> str | None:
    """Return the id of the caller's credential, or None."""
    try:
        return current().credential_id
    except LookupError:
        return None


@dataclass
class Target:
    """The running application."""

    port: int = 0
    entered: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, method: str, target: str, *headers: tuple[str, str]) -> Answer:
        send = partial(Web(self.port, Path()).send, method, target, *headers)
        return await asyncio.get_running_loop().run_in_executor(_SENDERS, send)

    async def get(self, credential: str, target: str = "/") -> Answer:
        return await self.send("GET", target, ("authorization", f"Bearer {credential}"))

    def wsgi(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        identity = environ["authsvc.identity"]
        seen = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"],
            "caller": caller(),
            "identity": identity and identity.credential_id,
            "headers": {
                name[5:].lower().replace("_", "-"): value
                for name, value in environ.items()
                if name.startswith("HTTP_")
            },
        }
        self.entered.append(seen)
        if environ["PATH_INFO"] == "/stream":
            start_response("200 OK", [("content-type", "text/plain")])
            return self._parts()
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else json.dumps(seen).encode()
        start_response("200 OK", [("content-type", "application/json"), ("x-seen", "yes")])
        return [body]

    def _parts(self) -> Iterator[bytes]:
        try:
            for _ in range(PARTS):
                yield f"{caller()}\n".encode()
        finally:
            self.entered.append({"caller": caller()})

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise ValueError("as Django does")
        identity = scope["authsvc.identity"]
        seen = {
            "method": scope.get("method", "WEBSOCKET"),
            "path": scope["path"],
            "caller": caller(),
            "identity": identity and identity.credential_id,
            "headers": {name.decode(): value.decode("latin-1") for name, value in scope["headers"]},
            "thread": await asyncio.to_thread(caller),
            "task": await asyncio.create_task(_caller()),
        }
        self.entered.append(seen)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": json.dumps(seen)})
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-seen", b"yes")]})
        if scope["path"] == "/stream":
            for _ in range(PARTS):
                part = f"{caller()}\n".encode()
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            self.entered.append({"caller": caller()})
        else:
            await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


async def _caller() -> str | None:
    return caller()


async def own_key(service: Service) -> str:
    """Return a key that can only verify."""
    made = await service.admin.CreateKey(
        owner_id="authsvc", display_name="checker", scopes=["keys:verify", "sessions:verify"]
    )
    return str(made.key_string)


@asynccontextmanager
async def behind(kind: str, address: str, key: str, **options: Any) -> AsyncIterator[Target]:
    """Run the application behind the middleware of a kind."""
    target, deadline = Target(), options.pop("deadline", 30)
    if kind == "wsgi":
        with (
            BlockingAuthClient(address, key=key, tls=None, deadline=deadline) as client,
            serving_wsgi(AuthenticatedWsgi(validator(target.wsgi), client, **options)) as target.port,
        ):
            yield target
    else:
        asking = AuthClient(address, key=key, tls=None, deadline=deadline)
        async with serving_asgi(AuthenticatedAsgi(target.asgi, asking, **options)) as target.port:
            yield target


class _Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        pass


@contextmanager
def serving_wsgi(app: WSGIApplication) -> Iterator[int]:
    """Serve with a thread per request, check that the protocol is kept, and yield the port."""
    with make_server("127.0.0.1", 0, validator(app), _Threading, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


async def _serve(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit:
        raise AssertionError("the server does not start") from None


@asynccontextmanager
async def serving_asgi(app: AsgiApp, **settings: Any) -> AsyncIterator[int]:
    """Serve with uvicorn, and yield the port."""
    # The parser that passes on more of what a client sends.
    given = {"lifespan": "on", "log_config": None, "http": "h11", **settings}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **given))
    serving = asyncio.ensure_future(_serve(server))
    try:
        await eventually(lambda: server.started or serving.done())
        if serving.done():
            return  # and raise its error
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving
