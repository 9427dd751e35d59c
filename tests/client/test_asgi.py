"""What only ASGI has: WebSockets, and the life of the client in the server."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from authsvc.client import AuthClient, AuthenticatedAsgi, Tls
from authsvc.client.asgi import Message, Receive, Scope, Send
from tests.client.webapp import Target, behind, caller, own_key, serving_asgi
from tests.conftest import Service
from tests.rpc.test_revoke import make


async def outcome(target: Target, path: str, **headers: str) -> tuple[int, str]:
    """Return the status and reason of a WebSocket that is refused; (101, what the application saw) else."""
    try:
        async with connect(
            f"ws://127.0.0.1:{target.port}{path}", additional_headers=headers, proxy=None
        ) as socket:
            return 101, json.loads(await socket.recv())["caller"]
    except InvalidStatus as refused:
        body = refused.response.body
        return refused.response.status_code, json.loads(body)["reason"] if body else ""


async def test_websockets(service: Service) -> None:
    """They are refused before they are accepted, like a GET; the application knows the caller."""
    made, other = await make(service, scopes=["orders:read"]), await make(service)
    options = {"scopes": {"GET /orders/*": "orders:read", "POST /write": []}, "cookies": ["sid"]}
    async with behind("asgi", service.address, await own_key(service), **options) as target:
        bearer = {"authorization": f"Bearer {made.key_string}"}
        assert await outcome(target, "/orders/live", **bearer) == (101, made.key.key_id)
        assert await outcome(target, "/orders/live", cookie=f"sid={made.key_string}") == (
            101,
            made.key.key_id,
        )
        entered = len(target.entered)
        assert await outcome(target, "/orders/live") == (401, "CREDENTIAL_MISSING")
        lacking = {"authorization": f"Bearer {other.key_string}"}
        assert await outcome(target, "/orders/live", **lacking) == (403, "SCOPE_MISSING")
        for path in ("/write", "/unknown", "/orders/%2e%2e", "//orders/live"):
            assert await outcome(target, path, **bearer) == (403, "ROUTE_NOT_PERMITTED"), path
        await service.admin.RevokeKey(key_id=made.key.key_id)
        assert await outcome(target, "/orders/live", **bearer) == (401, "CREDENTIAL_REVOKED")
        assert len(target.entered) == entered
    async with behind("asgi", "127.0.0.1:1", "own", deadline=0.5, **options) as target:
        assert await outcome(target, "/orders/live", **bearer) == (503, "VERIFIER_UNAVAILABLE")


@pytest.mark.parametrize(("address", "code"), [("", 1008), ("127.0.0.1:1", 1013)])
async def test_a_server_that_cannot_answer_a_websocket(address: str, code: int) -> None:
    """The connection is closed before it is accepted, which servers turn into 403."""
    sent: list[Message] = []
    target = Target()

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"x-api-key", b"x")] if address else []
    scope = {"type": "websocket", "path": "/", "headers": headers, "client": None}
    async with AuthClient(address or "127.0.0.1:1", key="x", tls=None, deadline=0.2) as client:
        await AuthenticatedAsgi(target.asgi, client, scopes=[])(scope, receive, send)
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", code)]
    assert target.entered == []


async def test_other_requests_are_not_let_through() -> None:
    """A type that a later version of ASGI may have cannot be authenticated."""
    target: Any = Target()
    async with AuthClient("127.0.0.1:1", key="x", tls=None) as client:
        app = AuthenticatedAsgi(target.asgi, client, scopes=[])
        with pytest.raises(ValueError, match="webtransport"):
            await app({"type": "webtransport", "path": "/", "headers": []}, target, target)
    assert target.entered == []


class App:
    """Tells of its own lifespan, and whether the client was running then."""

    def __init__(self, client: AuthClient, *, fails: str = "") -> None:
        self.client, self.fails = client, fails
        self.told: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": (caller() or "").encode()})
            return
        assert (await receive())["type"] == "lifespan.startup"
        self.told.append(await self._state("started"))
        if self.fails:
            await send({"type": "lifespan.startup.failed", "message": self.fails})
            return
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.told.append(await self._state("ended"))
        await send({"type": "lifespan.shutdown.complete"})

    async def _state(self, event: str) -> str:
        try:
            await self.client.verify_key("rubbish", deadline=30)
        except RuntimeError:
            return f"{event} without a client"
        return f"{event} with a client"


async def test_the_client_lives_as_long_as_the_application(service: Service) -> None:
    """It is running when the application starts, and until it has ended."""
    made = await make(service)
    client = AuthClient(service.address, key=await own_key(service), tls=None, deadline=30)
    app = App(client)
    guarded = AuthenticatedAsgi(app, client, scopes=[])
    for _ in range(2):
        async with serving_asgi(guarded) as port:
            answer = await Target(port).get(made.key_string)
            assert answer.body.decode() == made.key.key_id
        with pytest.raises(RuntimeError, match="not running"):
            await client.verify_key("x")
    assert app.told == ["started with a client", "ended with a client"] * 2


async def test_the_client_is_closed_before_the_server_ends() -> None:
    """A server may stop the event loop as soon as it is told that the application has ended."""
    client = AuthClient("127.0.0.1:1", key="x", tls=None)
    events = iter(["lifespan.startup", "lifespan.shutdown"])
    told: list[str] = []

    async def receive() -> Message:
        return {"type": next(events)}

    async def send(message: Message) -> None:
        told.append(message["type"])
        if message["type"] == "lifespan.shutdown.complete":
            with pytest.raises(RuntimeError, match="not running"):
                await client.verify_key("authsvc_live_x")

    for app in (App(client), Target().asgi):
        events, told = iter(["lifespan.startup", "lifespan.shutdown"]), []
        await AuthenticatedAsgi(app, client, scopes=[])({"type": "lifespan"}, receive, send)
        assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_an_application_that_fails_later() -> None:
    """The server learns of it, and the client is closed."""
    client = AuthClient("127.0.0.1:1", key="x", tls=None)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        raise KeyError("later")

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        assert message["type"] == "lifespan.startup.complete"

    with pytest.raises(KeyError, match="later"):
        await AuthenticatedAsgi(app, client, scopes=[])({"type": "lifespan"}, receive, send)
    with pytest.raises(RuntimeError, match="not running"):
        await client.verify_key("authsvc_live_x")


async def test_the_caller_is_forgotten(service: Service) -> None:
    """A server, or an application around ours, may use one task for several requests."""
    made = await make(service)
    target = Target()

    async def send(message: Message) -> None:
        pass

    receive: Any = None
    headers = [(b"x-api-key", made.key_string.encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    async with AuthClient(service.address, key=await own_key(service), tls=None, deadline=30) as client:
        await AuthenticatedAsgi(target.asgi, client, scopes=[])(scope, receive, send)
    assert target.entered[0]["caller"] == made.key.key_id
    assert caller() is None


async def test_a_client_of_somebody_else_stays_open(service: Service) -> None:
    """The middleware closes only what it has started."""
    made = await make(service)
    async with AuthClient(service.address, key=await own_key(service), tls=None, deadline=30) as client:
        async with serving_asgi(AuthenticatedAsgi(App(client), client, scopes=[])) as port:
            assert (await Target(port).get(made.key_string)).status == 200
        assert await client.verify_key(made.key_string)


async def test_a_server_without_lifespans(service: Service) -> None:
    """The client starts with the first request; many at a time start it once."""
    made = await make(service)
    starts = 0

    class Slow(AuthClient):
        async def __aenter__(self) -> Self:
            nonlocal starts
            starts += 1
            await all_are_here.wait()
            return await super().__aenter__()

    all_are_here = asyncio.Event()
    client = Slow(service.address, key=await own_key(service), tls=None, deadline=30)
    arrived = 0

    def note(scope: Scope) -> str:
        nonlocal arrived
        arrived += 1
        if arrived == 10:
            all_are_here.set()
        return ""

    app = AuthenticatedAsgi(App(client), client, scopes=[], client_address=note)
    async with serving_asgi(app, lifespan="off") as port:
        answers = await asyncio.gather(*(Target(port).get(made.key_string) for _ in range(10)))
        assert {answer.status for answer in answers} == {200}
        assert starts == 1
    await client.__aexit__(None, None, None)


async def test_an_application_in_another_one(service: Service) -> None:
    """It is not told of lifespans. Its paths are those below the mount."""
    made = await make(service)
    client = AuthClient(service.address, key=await own_key(service), tls=None, deadline=30)
    inner = AuthenticatedAsgi(Target().asgi, client, scopes={"/orders": []}, public=["/"])
    async with serving_asgi(Starlette(routes=[Mount("/shop", inner)])) as port:
        target = Target(port)
        assert (await target.get(made.key_string, "/shop/orders")).status == 200
        assert (await target.send("GET", "/shop/")).status == 200
        for path in ("/shop/shop/orders", "/shop/orders/1", "/shop//orders", "/shop/%2e%2e/shop/orders"):
            assert (await target.get(made.key_string, path)).status == 403, path
    await client.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("path", "root_path", "status"),
    [
        ("/shop/orders", "/shop", 200),
        ("/orders", "/shop", 200),  # the server gives the path below
        ("/shop/orders", "", 403),
        ("/shoporders", "/shop", 403),
        ("/shop/orders", "/shop/", 403),  # frameworks differ
        ("/shop/shop/orders", "/shop", 403),
        ("/shop", "/shop", 403),
        ("orders", "", 403),
        ("", "", 403),
    ],
)
async def test_root_path(service: Service, path: str, root_path: str, status: int) -> None:
    """The paths are those that frameworks use; if frameworks differ, the request is refused."""
    made = await make(service)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    receive: Any = None
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": root_path,
        "headers": [(b"x-api-key", made.key_string.encode())],
    }
    async with AuthClient(service.address, key=await own_key(service), tls=None, deadline=30) as client:
        await AuthenticatedAsgi(Target().asgi, client, scopes={"/orders": []})(scope, receive, send)
    assert sent[0]["status"] == status
    assert "authsvc.identity" not in scope
    assert len(scope["headers"]) == 1  # the scope of the server is as it was


async def test_an_application_that_does_not_start(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Its own failure is passed on, and the client is closed."""
    client = AuthClient(service.address, key=service.admin_key, tls=None)
    app = AuthenticatedAsgi(App(client, fails="no database"), client, scopes=[])
    with pytest.raises(AssertionError, match="does not start"):
        async with serving_asgi(app):
            pass
    assert "no database" in caplog.text
    with pytest.raises(RuntimeError, match="not running"):
        await client.verify_key("x")


async def test_a_client_that_does_not_start(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The server does not start, and its log names the cause."""
    client = AuthClient("localhost:1", key="x", tls=Tls(ca=tmp_path / "missing.pem"))
    with pytest.raises(AssertionError, match="does not start"):
        async with serving_asgi(AuthenticatedAsgi(App(client), client, scopes=[])):
            pass
    assert "the client of authsvc cannot start" in caplog.text
    assert "missing.pem" in caplog.text


async def test_an_application_without_lifespans_is_logged_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """Django raises, which is no news."""
    with caplog.at_level(logging.INFO, "authsvc.client"):
        async with behind("asgi", "127.0.0.1:1", "own", scopes=[]):
            pass
    [record] = [record for record in caplog.records if "does not handle lifespans" in record.getMessage()]
    assert record.levelno == logging.INFO


async def test_fastapi(service: Service) -> None:
    """With `add_middleware`, a lifespan and state of its own, and a handler that runs in a thread."""
    made = await make(service)
    client = AuthClient(service.address, key=await own_key(service), tls=None, deadline=30)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        assert await client.verify_key(made.key_string)
        yield {"greeting": "hello"}

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(AuthenticatedAsgi, client=client, scopes=[])

    @app.get("/")
    def who(request: Request) -> Any:
        return {"who": caller(), "greeting": request.state.greeting}

    async with serving_asgi(app) as port:
        answer = await Target(port).get(made.key_string)
        assert answer.json == {"who": made.key.key_id, "greeting": "hello"}
