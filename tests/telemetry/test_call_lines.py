"""What the log says of calls: the access log, and the ids in the lines that are written during a call."""

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import grpc
import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from authsvc.model.key_string import redact
from authsvc.store.uncancelled import uncancelled
from authsvc.telemetry import configure_logging
from authsvc.telemetry.access_log import AccessLog
from authsvc.telemetry.current_call import CurrentCall, answering, apart
from authsvc.telemetry.observer import Observer
from authsvc.web.named_calls import NamedCalls
from tests.conftest import Client, Service, eventually, serving

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_PARENT = f"00-{_TRACE}-00f067aa0ba902b7-01"


class Lines:
    """The lines of the log, as a service writes them."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Those of the access log."""
        return [line for line in self.all if line["logger"] == "authsvc.telemetry.access_log"]

    def take(self) -> list[dict[str, Any]]:
        """Return those of the access log, and forget all."""
        calls = self.calls
        self.stream.seek(0)
        self.stream.truncate()
        return calls


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """All loggers write there."""
    root, lines = logging.getLogger(), Lines()
    before = root.handlers[:], root.level
    access = logging.getLogger("authsvc.telemetry.access_log")
    configure_logging("warning", "json", redact, lines.stream)
    yield lines
    access.setLevel(logging.NOTSET)
    root.handlers[:], level = before
    root.setLevel(level)


async def test_all_calls(database_url: str, lines: Lines) -> None:
    """Each has a line, whatever the level of the log is: who called what, and how it ended."""
    async with serving(database_url, None, access_log="all", verification_sampling=1) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="a", scopes=["keys:read"])
        [created] = lines.take()
        caller = Client(service.channel, made.key_string, x_request_id="mine-1", traceparent=_PARENT)
        await caller.ListKeys(owner_id="acme")
        with pytest.raises(grpc.aio.AioRpcError):
            await caller.ListKeys(owner_id="other")
        with pytest.raises(grpc.aio.AioRpcError):
            await Client(service.channel, None).ListKeys(owner_id="acme")
        listed, refused, unknown = lines.take()
        await service.admin.VerifyKey(key_string=made.key_string)
        await service.admin.VerifyKey(key_string=made.key_string[:-1])
        verified, wrong = lines.take()
        assert made.key_string not in lines.stream.getvalue()
    assert created["event"] == "call"
    assert created["level"] == "info"
    assert created["method"] == "authsvc.v1.KeyService/CreateKey"
    assert (created["code"], created["over"]) == ("OK", "grpc")
    assert created["owner_id"] == "authsvc"
    assert created["network"] == "127.0.0.0/24"
    assert created["ms"] > 0
    assert created["bytes"] > 100
    assert len(created["request_id"]) == 16
    assert (listed["caller_id"], listed["owner_id"]) == (made.key.key_id, "acme")
    assert listed["request_id"] == refused["request_id"] == "mine-1"
    assert (refused["code"], refused["reason"]) == ("PERMISSION_DENIED", "OWNER_NOT_PERMITTED")
    assert (unknown["code"], unknown["reason"]) == ("UNAUTHENTICATED", "CREDENTIAL_MISSING")
    assert "caller_id" not in unknown
    assert (verified["verdict"], wrong["verdict"]) == ("VALID", "NOT_FOUND")


async def test_errors_only(database_url: str, lines: Lines) -> None:
    """Calls that end well leave no line; of verifications, no error is left out."""
    async with serving(
        database_url, None, access_log="errors", verification_sampling=0, web_listen="127.0.0.1:0"
    ) as service:
        await service.admin.ListKeys(owner_id="acme")
        await service.admin.VerifyKey(key_string=service.admin_key)
        with pytest.raises(grpc.aio.AioRpcError):
            await service.admin.GetKey(key_id="key_01jd3v5q8m0k2n4p6r8s0t2v4w")
        with pytest.raises(grpc.aio.AioRpcError):
            await Client(service.channel, None).VerifyKey(key_string=service.admin_key)
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.post(
                f"http://127.0.0.1:{service.app.web_port}/authsvc.v1.KeyService/GetKey",
                json={"keyId": "key_01jd3v5q8m0k2n4p6r8s0t2v4w"},
                headers={"authorization": f"Bearer {service.admin_key}", "x-request-id": "over-http"},
            )
        found = lines.take()
    assert [(line["code"], line["over"]) for line in found] == [
        ("NOT_FOUND", "grpc"),
        ("UNAUTHENTICATED", "grpc"),
        ("NOT_FOUND", "connect_rpc"),
    ]
    assert found[-1]["request_id"] == answer.headers["x-request-id"] == "over-http"


async def test_verifications_are_sampled(database_url: str, lines: Lines) -> None:
    """With a share of none, they leave no line, and without an access log nothing does."""
    for which, expected in (("all", ["ListKeys"]), ("off", [])):
        async with serving(database_url, None, access_log=which, verification_sampling=0) as service:
            if which == "all":
                admin_key = service.admin_key
            admin = service.as_caller(admin_key)
            for _ in range(5):
                await admin.VerifyKey(key_string=admin_key)
            await admin.ListKeys(owner_id="acme")
            assert [line["method"].rpartition("/")[2] for line in lines.take()] == expected


class Page:
    """An application whose pages end in some way."""

    def __init__(self, end: BaseException | None) -> None:
        self._end = end

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a part", "more_body": True})
        if self._end is not None:
            raise self._end
        await send({"type": "http.response.body", "body": b" and more"})


@pytest.mark.parametrize(
    ("end", "code", "size"),
    [(None, "OK", 15), (ValueError("hunter2"), "INTERNAL", 6), (asyncio.CancelledError(), "CANCELLED", 6)],
)
async def test_how_a_page_ends(lines: Lines, end: BaseException | None, code: str, size: int) -> None:
    """A fault and a request that is given up are errors, also after the status was sent."""
    pages = NamedCalls(Page(end), ["console"], Observer(AccessLog("all"), None, ratio=0))
    with nullcontext() if end is None else pytest.raises(type(end)):
        await pages({"type": "http", "method": "GET", "path": "/console/keys"}, _nothing, _sent)
    [line] = lines.take()
    assert (line["method"], line["code"], line["bytes"]) == ("console/GET", code, size)


@pytest.mark.parametrize("path", ["/hello", "/" + "a" * 40, "/%D0%B0", "/админ", "/r0", "/", "", "/consoles"])
async def test_paths_that_callers_choose_are_not_logged(lines: Lines, path: str) -> None:
    """Otherwise strangers would write into the log, and give spans any number of names."""
    pages = NamedCalls(Page(None), ["console"], Observer(AccessLog("all"), None, ratio=0))
    await pages({"type": "http", "method": "GET", "path": path}, _nothing, _sent)
    assert [line["method"] for line in lines.take()] == ["other/GET"]


async def _nothing() -> Message:
    raise AssertionError("nothing is read")


async def _sent(_: Message) -> None:
    pass


async def test_a_proxy_that_asks_in_the_wrong_way(database_url: str, lines: Lines) -> None:
    """Its check is an error in the access log, too."""
    async with serving(
        database_url, None, access_log="errors", verification_sampling=0, http_listen="127.0.0.1:0"
    ) as service:
        headers = {"x-authsvc-key": service.admin_key}
        about = {"x-forwarded-method": "GET", "x-forwarded-uri": "/"}
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            url = f"http://127.0.0.1:{service.app.http_port}/check"
            for query, more in (("?scop=a", about), ("", {}), ("", about)):
                await client.get(f"{url}{query}", headers={**headers, **more})
        found = lines.take()
    assert [(line["method"], line["code"]) for line in found] == 2 * [("check/HttpCheck", "INVALID_ARGUMENT")]


async def test_a_call_that_is_given_up(database_url: str, lines: Lines) -> None:
    """It has a line that says so, and none that is an error."""
    async with serving(database_url, None, access_log="all", workers=1) as service:
        async with service.app.database.transaction() as connection:
            await connection.execute("LOCK authsvc.owner_policies")
            call = asyncio.ensure_future(service.admin.GetOwnerPolicy(owner_id="acme"))
            await eventually(partial(_waits, service), bool)
            call.cancel()
            await asyncio.wait([call])
            await eventually(partial(_later, lines), bool)
        assert [(line["code"], line["level"]) for line in lines.all] == [("CANCELLED", "info")]


async def _later(lines: Lines) -> list[dict[str, Any]]:
    await asyncio.sleep(0)
    return lines.calls


async def _waits(service: Service) -> bool:
    async with service.app.database.connection() as connection:
        return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_every_line_of_a_call_names_it(
    service: Service, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also lines of libraries, of tasks that the call begins, and of a fault; of calls at the same time."""

    async def faulty(*_: object, **__: object) -> None:
        logging.getLogger("asyncpg.pool").warning("a library has something to say")
        await uncancelled(_say("a task has something to say"))
        raise RuntimeError("broken")

    monkeypatch.setattr(service.app.sessions, "list", faulty)
    ids = [f"call-{number}" for number in range(3)]
    callers = [Client(service.channel, service.admin_key, x_request_id=each) for each in ids]
    errors = await asyncio.gather(
        *(caller.ListSessions(owner_id="acme") for caller in callers), return_exceptions=True
    )
    for each, error in zip(ids, errors, strict=True):
        assert isinstance(error, grpc.aio.AioRpcError)
        assert dict(error.trailing_metadata() or ())["x-request-id"] == each
        found = [line["event"] for line in lines.all if line.get("request_id") == each]
        assert found == [
            "a library has something to say",
            "a task has something to say",
            "unexpected error in ListSessions",
        ]
    assert len(lines.all) == 9


async def _say(text: str) -> None:
    logging.getLogger("authsvc.tests").warning(text)


async def test_a_connection_does_not_belong_to_the_call_that_opened_it(
    service: Service, lines: Lines
) -> None:
    """What is logged of it later does not name that call."""
    await service.app.database.refresh()
    told = asyncio.Event()

    def listen(*_: object) -> None:
        logging.getLogger("authsvc.tests").warning("from the database")
        told.set()

    with answering(CurrentCall("first")):
        async with service.app.database.connection() as connection:
            connection.add_log_listener(listen)
            await connection.execute("DO $$ BEGIN RAISE NOTICE 'x'; END $$")
            await told.wait()
            connection.remove_log_listener(listen)
    [line] = [line for line in lines.all if line["event"] == "from the database"]
    assert "request_id" not in line


async def test_the_id_is_answered(service: Service) -> None:
    """A call without an id gets one; one that may not be logged is replaced."""
    call: Any = service.admin.ListKeys(owner_id="acme")
    await call
    made = dict(await call.trailing_metadata())["x-request-id"]
    bad: Any = Client(service.channel, service.admin_key, x_request_id=service.admin_key).ListKeys(
        owner_id="acme"
    )
    await bad
    replaced = dict(await bad.trailing_metadata())["x-request-id"]
    assert len(made) == len(replaced) == 16
    assert made != replaced


def test_apart() -> None:
    """A context that belongs to no call, whatever it is made in."""
    with answering(CurrentCall("a call")):
        context = apart()
    with _collected() as said:
        context.run(logging.getLogger("authsvc.tests").warning, "apart")
    assert "a call" not in said()


@contextmanager
def _collected() -> Iterator[Callable[[], str]]:
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level
    configure_logging("info", "json", redact, stream)
    yield stream.getvalue
    root.handlers[:], level = before
    root.setLevel(level)


def test_off_means_off() -> None:
    """No setting of a logger is touched."""
    assert not AccessLog("off").is_on
    assert logging.getLogger("authsvc.telemetry.access_log").level == logging.NOTSET
