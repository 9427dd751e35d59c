"""The server of ASGI applications: bodies, what an application learns of its client, and its faults."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from authsvc.net.asgi_connection import MAX_HELD_BYTES
from authsvc.net.asgi_server import AsgiServer
from authsvc.net.listen_address import ListenAddress
from tests.net.asgi import LAST, QUESTION, Application, connect, exchange, settled, too_late

_MAX = 1000
_POST = b"POST /a HTTP/1.1\r\nhost: x\r\n"
_SIZED = _POST + b"content-length: %d\r\n\r\n"
_CHUNKED = _POST + b"transfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def _serving(**given: Any) -> AsyncIterator[tuple[AsgiServer, Application, int]]:
    application = Application()
    server = AsgiServer(application, **({"max_body_bytes": _MAX} | given))
    port = await server.start(ListenAddress("127.0.0.1", 0))
    try:
        yield server, application, port
    finally:
        await server.stop(0)
    assert server.held_bytes == 0
    assert not server.connections


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (_SIZED % 3 + b"abc", b"abc"),
        (_SIZED % 0, b""),
        (_SIZED % _MAX + b"x" * _MAX, b"x" * _MAX),
        (_CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
        (_CHUNKED + b"3;a=b\r\nabc\r\n0\r\nx-y: z\r\n\r\n", b"abc"),
        (_CHUNKED + b"0\r\n\r\n", b""),
        (_POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc", b"abc"),
    ],
    ids=["sized", "empty", "largest", "chunked", "trailers", "no chunk", "upgrade"],
)
@pytest.mark.parametrize("pieces", [1, 7, 10_000])
async def test_a_body_is_received(data: bytes, body: bytes, pieces: int) -> None:
    """However it arrives; and the next request after it."""
    async with _serving() as (server, application, _):
        connection, client = connect(server)
        for _ in range(2):
            size = -(-len(data) // pieces)
            for begin in range(0, len(data), size):
                connection.data_received(data[begin : begin + size])
                if pieces == 7:
                    await settled()
            await settled()
        ends = [part for part in client.written.split(b"HTTP/1.1 200 OK\r\n") if part]
        assert [end.partition(b"\r\n\r\n")[2] for end in ends] == [body, body]
        assert application.ends == ["sent", "sent"]
        assert all((b"x-y", b"z") not in scope["headers"] for scope in application.scopes)
        connection.connection_lost(None)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (_SIZED % (_MAX + 1), b"413"),
        (_SIZED % 10**18, b"413"),
        (_CHUNKED + b"%x\r\n" % (_MAX + 1) + b"x" * (_MAX + 1), b"413"),
        (_CHUNKED + b"1\r\nx\r\n" * (_MAX + 1), b"413"),
        (_CHUNKED + b"1;" + b"x" * 70_000, b"413"),
        (_CHUNKED + b"0\r\n" + b"x: y\r\n" * 300, b"431"),
        (_CHUNKED + b"0\r\nx y\r\n\r\n", b"400"),
        (_CHUNKED + b"1\r\nxy\r\n", b"400"),
        (_CHUNKED + b"1\nx\n0\n\n", b"400"),
        (_CHUNKED + b" 1\r\nx\r\n", b"400"),
        (_CHUNKED + b"+1\r\nx\r\n", b"400"),
        (_CHUNKED + b"0x1\r\nx\r\n", b"400"),
        (_CHUNKED + b"fffffffffffffffff\r\n", b"400"),
        (_POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501"),
        (_POST + b"transfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n", b"400"),
        (_POST + b"transfer-encoding: chunked, identity\r\n\r\n", b"400"),
        (_POST + b"transfer-encoding: xchunked\r\n\r\n", b"400"),
        (_POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", b"400"),
        (_POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc", b"400"),
        (_POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (_POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc", b"400"),
        (_POST + b"content-length: 3, 3\r\n\r\nabc", b"400"),
        (_POST + b"content-length: +3\r\n\r\nabc", b"400"),
        (b"POST /a HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (
            _POST + b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
    ],
)
async def test_what_is_no_proper_body(data: bytes, status: bytes) -> None:
    """It is refused, and what follows is never a request of its own."""
    async with _serving() as (server, application, port):
        answer = await exchange(port, data)
        assert answer[9:12] == status
        connection, client = connect(server)
        connection.data_received(data + LAST)
        await settled()
        assert client.statuses in ([status], [b"200", status])
        assert client.ended
        assert all(scope["path"] == "/a" for scope in application.scopes)
        assert "sent" not in application.ends
        connection.connection_lost(None)


async def test_what_comes_with_the_end_of_chunks_is_not_a_request() -> None:
    """Where it begins is unknown, so the connection ends with the answer; after a known size it is one."""
    async with _serving() as (server, application, _):
        for first, statuses in ((_CHUNKED + b"1\r\nx\r\n0\r\n\r\n", 1), (_SIZED % 1 + b"x", 2)):
            application.scopes.clear()
            connection, client = connect(server)
            connection.data_received(first + LAST)
            await settled()
            assert (client.answers, len(application.scopes), client.ended) == (statuses, statuses, "closed")
            connection.connection_lost(None)
        # Also when the answer came first, and it says that nothing follows.
        application.reads = False
        connection, client = connect(server)
        connection.data_received(_CHUNKED)
        await settled()
        assert b"connection: close" in client.written
        connection.data_received(b"0\r\n\r\n" + LAST)
        assert (client.answers, client.ended) == (1, "closed")
        connection.connection_lost(None)


async def test_a_slow_body_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 408, and the application is cancelled; it is 503 when the application did not receive it."""
    for size, reads, status in ((3, True, b"408"), (200_000, False, b"503")):
        async with _serving(max_body_bytes=size) as (server, application, _):
            application.reads = reads
            application.may_answer.clear()
            connection, client = connect(server)
            with too_late(monkeypatch, "BODY"):
                connection.data_received(_SIZED % size + b"x" * (size // 2))
                await settled()
            assert client.reads is reads
            connection._deadline.look()
            await settled()
            assert (client.statuses, client.ended) == ([status], "closed")
            assert application.ends == ["cancelled"]
            connection.connection_lost(None)


async def test_a_body_that_is_not_asked_for_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets its answer first; the connection goes on if the rest of the body comes in time."""
    async with _serving() as (server, application, _):
        application.reads = False
        connection, client = connect(server)
        connection.data_received(_SIZED % 6 + b"abc")
        await settled()
        assert client.statuses == [b"200"]
        connection.data_received(b"def")
        connection.data_received(QUESTION)
        await settled()
        assert (client.answers, client.ended) == (2, "")
        with too_late(monkeypatch, "BODY"):
            connection.data_received(_SIZED % 6)
            await settled()
        assert client.ended == "aborted"
        connection.connection_lost(None)


async def test_what_is_not_asked_for_is_not_read() -> None:
    """Nor is it sent at all if the client waits to be asked."""
    async with _serving(max_body_bytes=1_000_000) as (server, application, _):
        application.reads = False
        application.may_answer.clear()
        connection, client = connect(server)
        connection.data_received(_SIZED % 1_000_000 + b"x" * 70_000)
        assert client.reads is False
        connection.connection_lost(None)
        application.may_answer.set()
        for reads, told in ((True, [b"100", b"200"]), (False, [b"200"])):
            application.reads = reads
            connection, client = connect(server)
            connection.data_received(_POST + b"expect: 100-continue\r\ncontent-length: 1\r\n\r\n")
            await settled()
            if reads:
                connection.data_received(b"x")
                await settled()
            assert client.statuses == told
            assert client.ended == ("" if reads else "closed")
            connection.connection_lost(None)


async def test_the_bodies_of_all_are_bounded() -> None:
    """Also when the applications have received them; those with less than their share are served."""
    size = 1_000_000
    async with _serving(max_body_bytes=size) as (server, application, _):
        application.may_answer.clear()
        floods = [connect(server) for _ in range(MAX_HELD_BYTES // size + 3)]
        for connection, _ in floods:
            connection.data_received(_SIZED % size + b"x" * (size - 1))
            await settled()
            assert server.held_bytes <= MAX_HELD_BYTES
        assert [client.statuses for _, client in floods[-3:]] == [[b"503"]] * 3
        assert {client.ended for _, client in floods[:-3]} == {""}
        small, client = connect(server)
        small.data_received(_SIZED % 3 + b"abc")
        application.may_answer.set()
        await settled()
        assert client.answers == 1
        for connection, _ in [*floods, (small, client)]:
            connection.connection_lost(None)


async def test_an_application_that_waits_for_the_end_of_its_client() -> None:
    """It gets http.disconnect, and OSError if it sends all the same."""
    told: list[object] = []

    async def application(_: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            told.append(await receive())
        except asyncio.CancelledError:
            told.append(await receive())
            with pytest.raises(OSError):
                await send({"type": "http.response.start", "status": 200, "headers": []})
            told.append("not sent")

    server = AsgiServer(application)
    connection, _ = connect(server)
    connection.data_received(QUESTION)
    await settled()
    connection.connection_lost(None)
    await settled()
    assert told == [{"type": "http.disconnect"}, "not sent"]


async def test_an_answer_is_sent_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`send` waits for a client that reads slowly, piece by piece, and fails if it is cut off."""
    async with _serving() as (server, application, _):
        application.size = 200_000
        for cut_off in (False, True):
            application.ends.clear()
            connection, client = connect(server)
            client.stalls = True
            connection.data_received(LAST)
            await settled()
            assert application.ends == []
            for expected in (0, 65_536, 131_072, 196_608):
                assert len(client.written.partition(b"\r\n\r\n")[2]) == expected
                assert application.ends == []
                with too_late(monkeypatch, *(["READ"] if cut_off and expected == 131_072 else [])):
                    connection.resume_writing()
                    await settled()
            if cut_off:
                connection._deadline.look()
                assert client.ended == "aborted"
                connection.connection_lost(None)
                await settled()
                assert application.ends == ["gone"]
            else:
                connection.resume_writing()
                await settled()
                assert (application.ends, client.ended) == (["sent"], "closed")
                connection.connection_lost(None)


async def test_an_answer_that_takes_too_long() -> None:
    """It is 503 before the answer has begun; afterwards the connection is aborted."""
    async with _serving(answer_seconds=0.0) as (server, application, _):
        application.may_answer.clear()
        connection, client = connect(server)
        connection.data_received(QUESTION)
        await settled()
        connection._deadline.look()
        await settled()
        assert (client.statuses, client.ended, application.ends) == ([b"503"], "closed", ["cancelled"])
        assert b"retry-after: 1\r\n" in client.written
        connection.connection_lost(None)


def _of(*messages: dict[str, Any], then: Callable[[], None] = lambda: None) -> Any:
    async def application(_: Any, __: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        then()

    return application


_START = {"type": "http.response.start", "status": 200, "headers": []}
_BODY = {"type": "http.response.body", "body": b"x"}


def _fails() -> None:
    raise RuntimeError("the cause")


@pytest.mark.parametrize(
    ("application", "status", "end"),
    [
        (_of(), [b"500"], ""),
        (_of(then=_fails), [b"500"], ""),
        (_of(_START), [b"200"], "aborted"),
        (_of(_START, then=_fails), [b"200"], "aborted"),
        (_of({**_START, "headers": [(b"content-length", b"3")]}, _BODY), [b"200"], "aborted"),
        (_of(_BODY), [b"500"], ""),
        (_of({**_START, "headers": [(b"x", b"a\r\nb: c")]}), [], "aborted"),
    ],
    ids=["nothing", "raises", "begun", "begun, raises", "short", "no start", "a line end"],
)
async def test_faults_of_an_application(
    application: Any, status: list[bytes], end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged; the client does not learn what they are."""
    connection, client = connect(AsgiServer(application))
    connection.data_received(QUESTION)
    await settled()
    assert (client.statuses, client.ended) == (status, end)
    assert b"cause" not in client.written
    assert "a fault in the answer" in caplog.text
    connection.connection_lost(None)


async def test_an_old_client_gets_no_chunks(caplog: pytest.LogCaptureFixture) -> None:
    """HTTP/1.0 does not know them, so an answer of unknown size is a fault there."""
    answer = _of(_START, _BODY)
    for version, status in ((b"1.0", b"500"), (b"1.1", b"200")):
        connection, client = connect(AsgiServer(answer))
        connection.data_received(b"GET / HTTP/" + version + b"\r\nhost: x\r\n\r\n")
        await settled()
        assert client.statuses == [status]
        assert (b"chunked" in client.written) is (status == b"200")
        connection.connection_lost(None)
    assert "HTTP/1.0 requires a content-length" in caplog.text
